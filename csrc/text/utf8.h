// UTF-8, one code point at a time, and the assembler that turns a stream of token bytes into whole
// characters.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tinyzh {

// Length in bytes of the longest well-formed code point at the start of `bytes` (1-4), 0 if none
// starts there.  Well-formed as in Unicode table 3-7: no overlong forms, no surrogates, <= U+10FFFF.
size_t utf8_length(std::string_view bytes);

// Bytes in, whole characters out.  A character whose bytes arrive in pieces comes out once, when its
// last byte is there.  Bytes that can no longer become a character turn into U+FFFD, one for each
// maximal ill-formed subpart (Unicode, section 3.9: what Python's errors="replace" does), as soon as
// that is certain and no sooner.
class Utf8Assembler {
 public:
  void push(std::string_view bytes, std::string& out);  // appends what is whole to `out`
  void finish(std::string& out);                        // the stream is over: what is pending is broken
  bool pending() const { return !pending_.empty(); }

 private:
  std::string pending_;  // at most 3 bytes: a prefix of a well-formed character
};

}  // namespace tinyzh
