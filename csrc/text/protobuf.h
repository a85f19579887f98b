// The wire format of protocol buffers, field by field (https://protobuf.dev/programming-guides/encoding).
// What a field means is its reader's business; that it lies inside the message is checked here.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"

namespace tinyzh {

enum class WireType : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

// The conversions throw Error(Code::tokenizer) for a field of another wire type.
class ProtobufField {
 public:
  ProtobufField(uint32_t number, WireType type, uint64_t value, std::string_view bytes)
      : number_(number), type_(type), value_(value), bytes_(bytes) {}

  uint32_t number() const { return number_; }
  std::string_view bytes() const { return require(WireType::bytes), bytes_; }  // a string or a message
  uint64_t integer() const { return require(WireType::varint), value_; }
  bool boolean() const { return integer() != 0; }
  float real() const {
    require(WireType::fixed32);
    return std::bit_cast<float>(static_cast<uint32_t>(value_));
  }

 private:
  void require(WireType type) const {
    if (type_ != type)
      fail(Code::tokenizer, "field ", number_, " has wire type ", static_cast<int>(type_), ", expected ",
           static_cast<int>(type));
  }

  uint32_t number_;
  WireType type_;
  uint64_t value_;          // of the three types that are numbers
  std::string_view bytes_;  // points into the message
};

class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  // nullopt at the end of the message.  Throws Error(Code::tokenizer) for what is no field, or passes the
  // end.
  std::optional<ProtobufField> next() {
    if (rest_.empty()) return std::nullopt;
    const uint64_t tag = varint();
    const uint64_t number = tag >> 3, type = tag & 7;
    if (number == 0 || number > kMostFields) fail(Code::tokenizer, "a field has the number ", number);
    const auto field = [&](uint64_t value, std::string_view bytes = {}) {
      return ProtobufField(static_cast<uint32_t>(number), static_cast<WireType>(type), value, bytes);
    };
    switch (type) {
      case static_cast<uint64_t>(WireType::varint): return field(varint());
      case static_cast<uint64_t>(WireType::fixed64): return field(fixed(8));
      case static_cast<uint64_t>(WireType::fixed32): return field(fixed(4));
      case static_cast<uint64_t>(WireType::bytes): return field(0, take(varint()));
      default: fail(Code::tokenizer, "field ", number, " has wire type ", type, ", which is not in use");
    }
  }

 private:
  static constexpr uint64_t kMostFields = (1u << 29) - 1;

  std::string_view take(uint64_t size) {
    if (size > rest_.size())
      fail(Code::tokenizer, "a field of ", size, " bytes where ", rest_.size(), " are left");
    const std::string_view taken = rest_.substr(0, static_cast<size_t>(size));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  uint64_t fixed(size_t size) {
    uint64_t value = 0;
    const std::string_view bytes = take(size);
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[i]);
    return value;
  }

  uint64_t varint() {  // seven bits a byte, the lowest first; the eighth says that another byte follows
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<uint8_t>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail(Code::tokenizer, "a number of more than ten bytes");
  }

  std::string_view rest_;
};

}  // namespace tinyzh
