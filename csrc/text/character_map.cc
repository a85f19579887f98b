#include "text/character_map.h"

#include <algorithm>

#include "base/error.h"

namespace tinyzh {
namespace {

// A unit: bits 0-7 label, 8 "a value follows", 9 "the offset is in 256s", 10-30 offset.  A unit that holds
// a value has bit 31 set, and the value below it: it is no byte's label.
uint32_t label(uint32_t unit) { return unit & 0x800000FF; }
bool has_value(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

uint32_t little_endian(std::string_view bytes) {
  uint32_t number = 0;
  for (size_t i = 4; i-- > 0;) number = number << 8 | static_cast<uint8_t>(bytes[i]);
  return number;
}

// What can be reached from the root of a trie, visited once.  Nodes with the same base have the same
// children, so bases are what is visited: those that end alike share their ends.
class Inspection {
 public:
  Inspection(const std::vector<uint32_t>& units, std::string_view replacements)
      : units_(units),
        replacements_(replacements),
        first_child_((units.size() + 255) / 256 * 256, kNone),
        sibling_(units.size(), kNone),
        heights_(first_child_.size(), kUnvisited) {
    for (uint32_t unit = 0; unit < units.size(); ++unit) {
      if (label(units[unit]) > 0xFF) continue;
      const uint32_t base = unit ^ label(units[unit]);
      sibling_[unit] = first_child_[base];
      first_child_[base] = unit;
    }
  }

  void run() { height_of(offset(units_[0]), 0); }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint32_t kUnvisited = 0xFFFFFFFF, kUnderWay = 0xFFFFFFFE;

  // The length of the longest rule that starts at `base`; `depth` bytes lead there.
  uint32_t height_of(uint32_t base, uint32_t depth) {
    if (base >= heights_.size()) return 0;
    if (heights_[base] == kUnderWay) fail(Code::tokenizer, "the trie of its character map runs in a circle");
    if (heights_[base] == kUnvisited) {
      if (depth > CharacterMap::kLongestRule) too_long();
      heights_[base] = kUnderWay;
      uint32_t height = 0;
      for (uint32_t child = first_child_[base]; child != kNone; child = sibling_[child]) {
        const uint32_t next = child ^ offset(units_[child]);
        if (has_value(units_[child])) check_value(next);
        height = std::max(height, 1 + height_of(next, depth + 1));
      }
      heights_[base] = height;
    }
    if (depth + heights_[base] > CharacterMap::kLongestRule) too_long();
    return heights_[base];
  }

  void check_value(uint32_t unit) const {
    const size_t at = unit < units_.size() ? value(units_[unit]) : replacements_.size();
    if (at >= replacements_.size())
      fail(Code::tokenizer, "a rule of its character map points outside of the replacements");
    const std::string_view text = replacements_.substr(at, CharacterMap::kLongestReplacement + 1);
    if (text.size() > CharacterMap::kLongestReplacement && text.find('\0') == std::string_view::npos)
      fail(Code::tokenizer, "a replacement of its character map is longer than ",
           CharacterMap::kLongestReplacement, " bytes");
  }

  [[noreturn]] static void too_long() {
    fail(Code::tokenizer, "a rule of its character map is longer than ", CharacterMap::kLongestRule, " bytes");
  }

  const std::vector<uint32_t>& units_;
  std::string_view replacements_;
  std::vector<uint32_t> first_child_;  // by base
  std::vector<uint32_t> sibling_;      // by unit
  std::vector<uint32_t> heights_;      // by base
};

}  // namespace

CharacterMap::CharacterMap(std::string_view compiled) {
  constexpr size_t kHeader = 4;
  const size_t size = compiled.size() < kHeader ? 0 : little_endian(compiled);
  if (size == 0 || size % 4 != 0 || size > compiled.size() - kHeader)
    fail(Code::tokenizer, "its character map of ", compiled.size(), " bytes says that its trie has ", size);

  const std::string_view trie = compiled.substr(kHeader, size);
  units_.reserve(size / 4);
  for (size_t at = 0; at < size; at += 4) units_.push_back(little_endian(trie.substr(at)));
  replacements_ = compiled.substr(kHeader + size);
  Inspection(units_, replacements_).run();
}

CharacterMap::Match CharacterMap::longest_match(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  uint32_t base = offset(units_[0]), found = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const uint32_t at = base ^ byte;
    if (at >= units_.size() || label(units_[at]) != byte) break;
    base = at ^ offset(units_[at]);
    if (!has_value(units_[at])) continue;
    match.length = i + 1;
    found = value(units_[base]);
  }
  if (match.length > 0) match.replacement = replacements_.c_str() + found;
  return match;
}

}  // namespace tinyzh
