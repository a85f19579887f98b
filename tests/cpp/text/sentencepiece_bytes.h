// Builds SentencePiece models in memory: protocol buffers field by field, and character maps.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/sentencepiece_model.h"

class ProtobufBytes {
 public:
  ProtobufBytes& varint(uint64_t value) {
    for (; value > 0x7F; value >>= 7) bytes += static_cast<char>(value | 0x80);
    bytes += static_cast<char>(value);
    return *this;
  }
  ProtobufBytes& tag(uint64_t number, unsigned wire_type) { return varint(number << 3 | wire_type); }

  ProtobufBytes& integer(uint64_t number, uint64_t value) { return tag(number, 0).varint(value); }
  ProtobufBytes& string(uint64_t number, std::string_view value) {
    tag(number, 2).varint(value.size()).bytes += value;
    return *this;
  }
  ProtobufBytes& real(uint64_t number, float value) {
    tag(number, 5);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(std::bit_cast<uint32_t>(value) >> shift);
    return *this;
  }

  std::string bytes;
};

// Begins with the unknown piece, BOS and EOS.
class SentencePieceBytes {
 public:
  using Type = tinyzh::SentencePieceType;

  SentencePieceBytes() { add("<unk>", 0, Type::unknown).add("<s>", 0, Type::control).add("</s>", 0, Type::control); }

  SentencePieceBytes& add(std::string_view text, float score = 0.0f, Type type = Type::normal) {
    ProtobufBytes piece;
    piece.string(1, text).real(2, score).integer(3, static_cast<uint64_t>(type));
    pieces.string(1, piece.bytes);
    ++count;
    return *this;
  }

  SentencePieceBytes& add_byte_pieces() {
    for (unsigned b = 0; b < 256; ++b) {
      char text[7];
      std::snprintf(text, sizeof text, "<0x%02X>", b);
      add(text, 0, Type::byte);
    }
    trainer.integer(35, 1);
    return *this;
  }

  // The trainer's part last: without it a file is of the type unigram, so that no part of one is whole.
  std::string file() const {
    ProtobufBytes out = pieces;
    return out.string(3, normalizer.bytes).string(2, trainer.bytes).bytes;
  }

  ProtobufBytes pieces, normalizer;
  ProtobufBytes trainer = ProtobufBytes().integer(3, 2);  // BPE
  int32_t count = 0;                                      // pieces so far: the id of the next
};

inline std::span<const std::byte> span_of(std::string_view bytes) { return std::as_bytes(std::span(bytes)); }

// A character map whose every node has 256 units for its children, at base 256 * (its number + 1).
class CharacterMapBytes {
 public:
  static constexpr uint32_t kUnreachable = 0x80000000;

  CharacterMapBytes() { add_node(0, 0); }

  CharacterMapBytes& add(std::string_view from, std::string_view to) {
    uint32_t unit = 0, node = 0;
    for (const char c : from) {
      const auto byte = static_cast<uint8_t>(c);
      const auto [child, is_new] = children_.try_emplace({node, byte}, static_cast<uint32_t>(units.size() / 256 - 1));
      unit = base(node) + byte;
      if (is_new) add_node(unit, byte);
      node = child->second;
    }
    units[unit] |= 0x100;
    units[base(node)] = kUnreachable | static_cast<uint32_t>(replacements.size());
    replacements += to;
    replacements += '\0';
    return *this;
  }

  static uint32_t base(uint32_t node) { return 256 * (node + 1); }

  // A unit that sends on to `to`, which is written in 256s where it can be.
  static uint32_t unit(uint32_t at, uint32_t to, uint32_t label, bool has_value = false) {
    const uint32_t offset = at ^ to;
    const uint32_t written = (offset & 0xFF) == 0 ? offset >> 8 << 10 | 0x200 : offset << 10;
    return written | (has_value ? 0x100 : 0) | label;
  }

  std::string bytes() const {
    std::string out;
    put(out, static_cast<uint32_t>(4 * units.size()));
    for (const uint32_t one : units) put(out, one);
    return out + replacements;
  }

  static void put(std::string& out, uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift);
  }

  std::vector<uint32_t> units = std::vector<uint32_t>(256, kUnreachable);
  std::string replacements;

 private:
  void add_node(uint32_t at, uint32_t label) {
    units[at] = unit(at, static_cast<uint32_t>(units.size()), label);
    units.resize(units.size() + 256, kUnreachable);
  }

  std::map<std::pair<uint32_t, uint8_t>, uint32_t> children_;
};
