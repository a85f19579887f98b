// How tokenizer files spell what is not plain text: spaces and single bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tinyzh {

inline constexpr std::string_view kSpaceMark = "▁";  // U+2581, not the underscore: a space

// Every mark a space.
inline std::string with_spaces(std::string_view text) {
  std::string out(text);
  for (size_t at = 0; (at = out.find(kSpaceMark, at)) != std::string::npos; ++at)
    out.replace(at, kSpaceMark.size(), " ");
  return out;
}

// "<0xE4>" -> 0xE4.  Exactly two hexadecimal digits: whatever else looks similar is text.
inline std::optional<uint8_t> parse_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    int digit;
    if (c >= '0' && c <= '9') digit = c - '0';
    else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
    else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    else return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<uint8_t>(value);
}

}  // namespace tinyzh
