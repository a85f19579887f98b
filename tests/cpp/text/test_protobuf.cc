#include "text/protobuf.h"

#include <doctest/doctest.h>

#include <limits>

#include "io/expect_error.h"
#include "sentencepiece_bytes.h"

using namespace tinyzh;
using tinyzh::testing::expect_error;

namespace {

void expect_refusal(const std::string& bytes, const std::string& word) {
  expect_error(Code::tokenizer, {word}, [&] {
    ProtobufReader in(bytes);
    while (in.next()) continue;
  });
}

}  // namespace

TEST_CASE("protobuf: fields of every wire type, in order") {
  ProtobufBytes message;
  message.integer(1, 300).string(2, "从前").real(3, -1.5f).tag(4, 1).bytes += "12345678";
  message.integer((1u << 29) - 1, std::numeric_limits<uint64_t>::max()).string(16, "");

  ProtobufReader in(message.bytes);
  auto field = in.next();
  CHECK(field->number() == 1);
  CHECK(field->integer() == 300);
  CHECK(field->boolean());
  CHECK(in.next()->bytes() == "从前");
  CHECK(in.next()->real() == -1.5f);
  CHECK(in.next()->number() == 4);
  field = in.next();
  CHECK(field->number() == (1u << 29) - 1);
  CHECK(field->integer() == std::numeric_limits<uint64_t>::max());
  field = in.next();
  CHECK(field->number() == 16);
  CHECK(field->bytes().empty());
  CHECK_FALSE(in.next().has_value());
}

TEST_CASE("protobuf: a field asked for as another type is refused with both") {
  const std::string number = ProtobufBytes().integer(7, 1).bytes, text = ProtobufBytes().string(7, "x").bytes;
  expect_error(Code::tokenizer, {"field 7", "wire type 0", "expected 2"}, [&] { ProtobufReader(number).next()->bytes(); });
  expect_error(Code::tokenizer, {"field 7", "wire type 0", "expected 5"}, [&] { ProtobufReader(number).next()->real(); });
  expect_error(Code::tokenizer, {"field 7", "wire type 2", "expected 0"}, [&] { ProtobufReader(text).next()->integer(); });
  expect_error(Code::tokenizer, {"field 7", "wire type 2", "expected 0"}, [&] { ProtobufReader(text).next()->boolean(); });
}

TEST_CASE("protobuf: what passes the end is refused") {
  for (const uint64_t size : {uint64_t{3}, uint64_t{0x7FFFFFFF}, uint64_t{0xFFFFFFFF}, uint64_t{1} << 63,
                              std::numeric_limits<uint64_t>::max()})
    expect_refusal(ProtobufBytes().tag(1, 2).varint(size).bytes + "ab", "a field of " + std::to_string(size) + " bytes where 2 are left");
  expect_refusal(ProtobufBytes().tag(1, 5).bytes + "abc", "where 3 are left");
  expect_refusal(ProtobufBytes().tag(1, 1).bytes + "abcdefg", "where 7 are left");
  expect_refusal(ProtobufBytes().tag(1, 0).bytes, "where 0 are left");
  expect_refusal("\x80", "where 0 are left");
}

TEST_CASE("protobuf: what is no field is refused") {
  for (const unsigned type : {3u, 4u, 6u, 7u})
    expect_refusal(ProtobufBytes().tag(1, type).bytes, "wire type " + std::to_string(type));
  expect_refusal(ProtobufBytes().integer(0, 1).bytes, "the number 0");
  expect_refusal(ProtobufBytes().integer(1u << 29, 1).bytes, "the number 536870912");
  expect_refusal(ProtobufBytes().tag(1, 0).bytes + std::string(11, '\xFF'), "more than ten bytes");
}
