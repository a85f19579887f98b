// The files that are most often given in place of a tokenizer, told by how they begin: words for the end
// of an error message.
#pragma once

#include <string_view>

namespace tinyzh {

inline std::string_view likely_mistake(std::string_view file) {
  if (file.starts_with("version https://git-lfs"))
    return " (it is a Git LFS pointer: fetch the real file with `git lfs pull`)";
  if (file.starts_with("<!") || file.starts_with("<html"))
    return " (it is a web page: download the file itself)";
  return " (it is cut short, has bytes added at its end, or is another kind of file)";
}

}  // namespace tinyzh
