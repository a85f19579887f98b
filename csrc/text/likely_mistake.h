// What was given in place of a tokenizer, told by how it begins: words for the end of an error message.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "io/foreign.h"

namespace tinyzh {

inline std::string likely_mistake(std::string_view file) {
  const Foreign found = what_is(std::as_bytes(std::span(file.data(), file.size())));
  if (found.kind.empty() || found.kind == "a tokenizer")  // of this very kind, then
    return " (it is cut short, has bytes added at its end, or is another kind of file)";
  const std::string_view remedy = found.always ? found.remedy : "give the model's tokenizer";
  return " (it is " + std::string(found.kind) + ": " + std::string(remedy) + ")";
}

}  // namespace tinyzh
