// Ends a stream of text at the first stop string to be complete, which is never let through, not even in
// part.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tinyzh {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Takes more text; returns what is certain to come before any stop string.
  std::string push(std::string_view text) {
    held_ += text;
    // The one that is complete first (of those, the longest): this does not depend on how the text is cut.
    size_t begin = 0, end = std::string::npos;
    for (const std::string& s : strings_)
      if (const size_t at = held_.find(s); at != std::string::npos)
        if (at + s.size() < end || (at + s.size() == end && at < begin)) begin = at, end = at + s.size();
    if (end != std::string::npos) {
      found_ = true;
      return take(begin);
    }
    // Hold back the longest end of the text that could be the beginning of a stop string.
    size_t hold = 0;
    for (const std::string& s : strings_)
      for (size_t n = std::min(s.size() - 1, held_.size()); n > hold; --n)
        if (std::string_view(held_).substr(held_.size() - n) == std::string_view(s).substr(0, n)) hold = n;
    return take(held_.size() - hold);
  }
  std::string finish() { return found_ ? std::string() : take(held_.size()); }  // the stream is over
  bool found() const { return found_; }

 private:
  std::string take(size_t n) {
    std::string out = held_.substr(0, n);
    held_.erase(0, n);
    return out;
  }
  std::vector<std::string> strings_;  // none empty
  std::string held_;
  bool found_ = false;
};

}  // namespace tinyzh
