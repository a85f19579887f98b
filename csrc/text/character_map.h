// SentencePiece's precompiled_charsmap: rules that replace one string by another, of which the longest
// that matches is applied.
//
//   uint32 size of the trie in bytes, the trie, the replacements one after another, each ending in NUL
//
// The trie is a double array as Darts-clone writes it: 32-bit units (all numbers little-endian), in which
// the child of a node for byte b stands at (base of the node XOR b) and is one only if its label is b.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tinyzh {

class CharacterMap {
 public:
  // Limits that no real map comes near: they bound the work and the memory for each byte of a text.
  static constexpr size_t kLongestRule = 1024, kLongestReplacement = 1024;

  CharacterMap() = default;  // no rules

  // Throws Error(Code::tokenizer), without the name of the file, for sizes that do not fit, a trie with a
  // cycle, a rule or a replacement that is too long or outside.
  explicit CharacterMap(std::string_view compiled);

  struct Match {
    size_t length = 0;  // 0: no rule
    std::string_view replacement;
  };
  Match longest_match(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace tinyzh
