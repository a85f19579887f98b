// Builds a tokenizer.bin in memory, entry by entry.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>

class TokenizerBytes {
 public:
  // Begins with the unknown token, BOS and EOS as llama2.c writes them.
  TokenizerBytes() : TokenizerBytes("\n<s>\n", "\n</s>\n") {}
  TokenizerBytes(std::string_view bos, std::string_view eos) {
    put(16);
    add("<unk>").add(bos).add(eos);
  }

  TokenizerBytes& add(std::string_view piece, float score = 0.0f) {
    put(std::bit_cast<uint32_t>(score));
    put(static_cast<uint32_t>(piece.size()));
    bytes += piece;
    ++count;
    return *this;
  }

  // <0x00> ... <0xFF>
  TokenizerBytes& add_byte_tokens() {
    for (unsigned b = 0; b < 256; ++b) {
      char text[7];
      std::snprintf(text, sizeof text, "<0x%02X>", b);
      add(text);
    }
    return *this;
  }

  // Every byte as the character of that number: what the first exporters wrote.
  TokenizerBytes& add_bytes_as_characters() {
    for (unsigned b = 0; b < 256; ++b)
      add(b < 0x80 ? std::string(1, static_cast<char>(b))
                   : std::string{static_cast<char>(0xC0 | b >> 6), static_cast<char>(0x80 | (b & 0x3F))});
    return *this;
  }

  // An integer of the format, for malformed files.
  TokenizerBytes& put(uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(value >> shift & 0xFF);
    return *this;
  }

  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes)); }

  std::string bytes;
  int32_t count = 0;  // entries so far: the id of the next
};
