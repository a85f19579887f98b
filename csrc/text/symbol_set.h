// A set of strings, asked for the longest one that a text begins with: the symbols that a SentencePiece
// model always takes as a whole.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tinyzh {

class SymbolSet {
 public:
  SymbolSet() = default;  // matches nothing
  explicit SymbolSet(std::vector<std::string> symbols) : symbols_(std::move(symbols)) {
    std::ranges::sort(symbols_);
    for (size_t byte = 0; byte < 256; ++byte)
      starts_[byte + 1] = find_end(starts_[byte], symbols_.size(), 0, static_cast<uint8_t>(byte));
  }

  // Its length; 0: none.  As many steps as bytes match.
  size_t longest_match(std::string_view text) const {
    if (text.empty()) return 0;
    const auto first = static_cast<uint8_t>(text[0]);
    size_t begin = starts_[first], end = starts_[first + 1];  // the symbols that agree so far
    size_t longest = 0;
    for (size_t length = 1; begin < end; ++length) {
      if (symbols_[begin].size() == length) {
        longest = length;
        while (begin < end && symbols_[begin].size() == length) ++begin;
      }
      if (length == text.size()) break;
      const auto byte = static_cast<uint8_t>(text[length]);
      if (byte > 0) begin = find_end(begin, end, length, static_cast<uint8_t>(byte - 1));
      end = find_end(begin, end, length, byte);
    }
    return longest;
  }

 private:
  // Of symbols that are equal up to `at` and longer: the end of those that have at most `byte` there.
  size_t find_end(size_t begin, size_t end, size_t at, uint8_t byte) const {
    const auto first = symbols_.begin();
    const auto found = std::partition_point(
        first + static_cast<std::ptrdiff_t>(begin), first + static_cast<std::ptrdiff_t>(end),
        [&](const std::string& symbol) { return static_cast<uint8_t>(symbol[at]) <= byte; });
    return static_cast<size_t>(found - first);
  }

  std::vector<std::string> symbols_;       // sorted by their bytes; none is empty
  std::array<size_t, 257> starts_{};  // by first byte: where the symbols with it start
};

}  // namespace tinyzh
