#include "text/sentencepiece_model.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "io/expect_error.h"
#include "sentencepiece_bytes.h"

using namespace tinyzh;
using tinyzh::testing::expect_error;
using Type = SentencePieceType;

namespace {

SentencePieceModel parse(std::string_view bytes) { return parse_sentencepiece_model(span_of(bytes), "test.model"); }

void expect_refusal(std::string_view bytes, std::initializer_list<std::string> words) {
  expect_error(Code::tokenizer, {"test.model is "}, [&] { parse(bytes); });
  expect_error(Code::tokenizer, words, [&] { parse(bytes); });
}

ProtobufBytes a_piece(std::string_view text = "从") { return ProtobufBytes().string(1, text); }

// A model with one more piece, given as it stands in the file.
std::string with_piece(const ProtobufBytes& piece) {
  SentencePieceBytes model;
  model.pieces.string(1, piece.bytes);
  return model.file();
}

}  // namespace

TEST_CASE("sentencepiece model: what is not said has its default") {
  const std::string file = with_piece(a_piece());
  const SentencePieceModel model = parse(file);
  REQUIRE(model.pieces.size() == 4);
  CHECK(model.pieces[0].type == Type::unknown);
  CHECK(model.pieces[3].text == "从");
  CHECK(model.pieces[3].score == 0.0f);
  CHECK(model.pieces[3].type == Type::normal);
  CHECK(model.algorithm == SentencePieceAlgorithm::bpe);
  CHECK_FALSE(model.byte_fallback);
  CHECK(model.unknown_surface == " \u2047 ");
  CHECK(model.normalizer.character_map.empty());
  CHECK(model.normalizer.add_dummy_prefix);
  CHECK(model.normalizer.remove_extra_whitespaces);
  CHECK(model.normalizer.escape_whitespaces);
  CHECK_FALSE(model.normalizer.treat_whitespace_as_suffix);
}

TEST_CASE("sentencepiece model: what is said is read") {
  SentencePieceBytes bytes;
  bytes.add("从", -2.5f, Type::user_defined).add("前", 7, Type::unused).add_byte_pieces();
  bytes.trainer.integer(24, 1).string(44, "[?]");
  bytes.normalizer.string(1, "a name").string(2, "a map").integer(3, 0).integer(4, 0).integer(5, 0);
  const std::string file = bytes.file();
  const SentencePieceModel model = parse(file);
  CHECK(model.pieces[3].score == -2.5f);
  CHECK(model.pieces[3].type == Type::user_defined);
  CHECK(model.pieces[4].type == Type::unused);
  CHECK(model.pieces[5 + 0xE4].text == "<0xE4>");
  CHECK(model.pieces[5 + 0xE4].type == Type::byte);
  CHECK(model.byte_fallback);
  CHECK(model.unknown_surface == "[?]");
  CHECK(model.normalizer.character_map == "a map");
  CHECK_FALSE(model.normalizer.add_dummy_prefix);
  CHECK_FALSE(model.normalizer.remove_extra_whitespaces);
  CHECK_FALSE(model.normalizer.escape_whitespaces);
  CHECK(model.normalizer.treat_whitespace_as_suffix);
}

TEST_CASE("sentencepiece model: unknown fields are skipped, parts add up, the last value counts") {
  ProtobufBytes others;
  others.integer(99, 5).string(98, "x").real(97, 1).tag(96, 1).bytes += "12345678";
  ProtobufBytes piece = others;
  piece.string(1, "前").string(1, "从").bytes += others.bytes;
  SentencePieceBytes bytes;
  bytes.pieces.string(1, piece.bytes);
  bytes.trainer.bytes += others.bytes;
  bytes.normalizer.bytes += others.bytes;
  bytes.normalizer.integer(3, 0);
  const std::string file = others.bytes + ProtobufBytes().string(2, ProtobufBytes().integer(3, 1).string(44, "[?]").bytes).bytes +
                           bytes.file() + ProtobufBytes().string(3, ProtobufBytes().integer(4, 0).bytes).bytes;
  const SentencePieceModel model = parse(file);
  CHECK(model.pieces[3].text == "从");
  CHECK(model.algorithm == SentencePieceAlgorithm::bpe);
  CHECK(model.unknown_surface == "[?]");
  CHECK_FALSE(model.normalizer.add_dummy_prefix);
  CHECK_FALSE(model.normalizer.remove_extra_whitespaces);
}

TEST_CASE("sentencepiece model: a file cut at any byte is refused") {
  SentencePieceBytes bytes;
  bytes.add("从前", -1).add("小", -2, Type::user_defined);
  bytes.normalizer.string(2, "a map").integer(3, 0);
  bytes.trainer.string(44, "[?]");
  const std::string whole = bytes.file();
  CHECK(parse(whole).pieces.size() == 5);
  for (size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    expect_error(Code::tokenizer, {"test.model is "}, [&] { parse(std::string_view(whole).substr(0, length)); });
  }
}

TEST_CASE("sentencepiece model: a known field of another wire type is refused") {
  const auto wrong = [](uint64_t number, bool is_string) {
    return is_string ? ProtobufBytes().integer(number, 1) : ProtobufBytes().string(number, "x");
  };
  for (const uint64_t number : {1u, 2u, 3u})
    expect_refusal(SentencePieceBytes().file() + wrong(number, true).bytes, {"wire type 0, expected 2"});
  for (const uint64_t number : {1u, 2u, 3u}) {
    ProtobufBytes piece = a_piece();
    piece.bytes += wrong(number, number == 1).bytes;
    expect_refusal(with_piece(piece), {"field " + std::to_string(number) + " has wire type"});
  }
  for (const uint64_t number : {3u, 24u, 35u, 44u}) {
    SentencePieceBytes bytes;
    bytes.trainer.bytes += wrong(number, number == 44).bytes;
    expect_refusal(bytes.file(), {"field " + std::to_string(number) + " has wire type"});
  }
  for (const uint64_t number : {2u, 3u, 4u, 5u}) {
    SentencePieceBytes bytes;
    bytes.normalizer.bytes += wrong(number, number == 2).bytes;
    expect_refusal(bytes.file(), {"field " + std::to_string(number) + " has wire type"});
  }
}

TEST_CASE("sentencepiece model: lengths that pass the end are refused, inside a part too") {
  for (const uint64_t size : {uint64_t{100}, uint64_t{0xFFFFFFFF}, std::numeric_limits<uint64_t>::max()}) {
    const std::string number = std::to_string(size);
    const std::string field = ProtobufBytes().tag(1, 2).varint(size).bytes + "ab";
    expect_refusal(field, {"a field of " + number + " bytes where 2 are left"});
    expect_refusal(ProtobufBytes().string(1, field).bytes + SentencePieceBytes().file(),
                   {"a field of " + number + " bytes where 2 are left"});
  }
}

TEST_CASE("sentencepiece model: other algorithms are refused by name") {
  const auto of_type = [](std::optional<uint64_t> type) {
    SentencePieceBytes bytes;
    bytes.trainer.bytes.clear();
    if (type) bytes.trainer.integer(3, *type);
    return bytes.file();
  };
  CHECK(parse(of_type(2)).pieces.size() == 3);
  expect_refusal(of_type(std::nullopt), {"the type unigram", "--model_type=bpe"});
  expect_refusal(of_type(1), {"the type unigram", "--model_type=bpe"});
  expect_refusal(of_type(3), {"the type word"});
  expect_refusal(of_type(4), {"the type char"});
  expect_refusal(of_type(0), {"type is 0, expected 1 to 4"});
  expect_refusal(of_type(5), {"type is 5, expected 1 to 4"});
  expect_refusal(of_type(uint64_t{1} << 32 | 2), {"type is 4294967298, expected 1 to 4"});
}

TEST_CASE("sentencepiece model: pieces that cannot be are refused") {
  expect_refusal(with_piece(ProtobufBytes()), {"piece 3 is empty"});
  expect_refusal(with_piece(a_piece().real(2, std::nanf(""))), {"the score of piece 3 is not a number"});
  CHECK(std::isinf(parse(with_piece(a_piece().real(2, -INFINITY))).pieces[3].score));
  for (const uint64_t type : {uint64_t{0}, uint64_t{7}, std::numeric_limits<uint64_t>::max()})
    expect_refusal(with_piece(a_piece().integer(3, type)), {"type of a piece is " + std::to_string(type)});
  expect_refusal(with_piece(a_piece().integer(3, 2)), {"2 unknown pieces"});
  expect_refusal(ProtobufBytes().string(2, ProtobufBytes().integer(3, 2).bytes).bytes, {"0 unknown pieces"});
}

TEST_CASE("sentencepiece model: byte pieces are all there or none is") {
  expect_refusal(SentencePieceBytes().add("<0x41>", 0, Type::byte).file(), {"1 byte pieces", "without byte fallback"});
  SentencePieceBytes none, twice, misspelt;
  none.trainer.integer(35, 1);
  expect_refusal(none.file(), {"0 byte pieces, expected 256"});
  expect_refusal(twice.add_byte_pieces().add("<0xe4>", 0, Type::byte).file(), {"byte piece 259 is '<0xe4>'", "another one"});
  for (const std::string text : {"A", "<0x4>", "<0x041>", "<0x4G>"})
    expect_refusal(SentencePieceBytes().add_byte_pieces().add(text, 0, Type::byte).file(), {"expected <0x00> to <0xFF>"});
}

TEST_CASE("sentencepiece model: files given by mistake are named") {
  expect_refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0", {"git lfs pull"});
  expect_refusal("<!DOCTYPE html><html></html>", {"HTML or XML page"});
  expect_refusal("", {"0 unknown pieces", "cut short"});
}
