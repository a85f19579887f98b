#include "text/sentencepiece_model.h"

#include <bitset>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "text/likely_mistake.h"
#include "text/protobuf.h"
#include "text/spelling.h"

namespace tinyzh {
namespace {

constexpr size_t kMostBytes = std::numeric_limits<int32_t>::max();  // so that ids and offsets fit

// An enumeration of the file's whose values are 1 to `last`.
template <class Enum>
Enum enumerated(const ProtobufField& field, Enum last, std::string_view what) {
  const uint64_t value = field.integer();
  if (value == 0 || value > static_cast<uint64_t>(last))
    fail(Code::tokenizer, what, " is ", value, ", expected 1 to ", static_cast<int>(last));
  return static_cast<Enum>(value);
}

// The field numbers are those of sentencepiece_model.proto.  Of a field that is there twice, the last
// one counts.

SentencePiece read_piece(std::string_view message) {
  SentencePiece piece;
  for (ProtobufReader in(message); const auto field = in.next();) {
    switch (field->number()) {
      case 1: piece.text = field->bytes(); break;
      case 2: piece.score = field->real(); break;
      case 3: piece.type = enumerated(*field, SentencePieceType::byte, "the type of a piece"); break;
      default: break;
    }
  }
  return piece;
}

void read_trainer_spec(std::string_view message, SentencePieceModel& model) {
  for (ProtobufReader in(message); const auto field = in.next();) {
    switch (field->number()) {
      case 3: model.algorithm = enumerated(*field, SentencePieceAlgorithm::character, "the model's type"); break;
      case 24: model.normalizer.treat_whitespace_as_suffix = field->boolean(); break;
      case 35: model.byte_fallback = field->boolean(); break;
      case 44: model.unknown_surface = field->bytes(); break;
      default: break;
    }
  }
}

void read_normalizer_spec(std::string_view message, NormalizerSpec& spec) {
  for (ProtobufReader in(message); const auto field = in.next();) {
    switch (field->number()) {
      case 2: spec.character_map = field->bytes(); break;
      case 3: spec.add_dummy_prefix = field->boolean(); break;
      case 4: spec.remove_extra_whitespaces = field->boolean(); break;
      case 5: spec.escape_whitespaces = field->boolean(); break;
      default: break;
    }
  }
}

SentencePieceModel read_model(std::string_view file) {
  SentencePieceModel model;
  for (ProtobufReader in(file); const auto field = in.next();) {
    switch (field->number()) {
      case 1: model.pieces.push_back(read_piece(field->bytes())); break;
      case 2: read_trainer_spec(field->bytes(), model); break;
      case 3: read_normalizer_spec(field->bytes(), model.normalizer); break;
      default: break;
    }
  }
  return model;
}

void check_pieces(const SentencePieceModel& model) {
  size_t unknown = 0;
  std::bitset<256> bytes;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (piece.text.empty()) fail(Code::tokenizer, "piece ", id, " is empty");
    if (std::isnan(piece.score)) fail(Code::tokenizer, "the score of piece ", id, " is not a number");
    if (piece.type == SentencePieceType::unknown) ++unknown;
    if (piece.type == SentencePieceType::byte) {
      const auto byte = parse_byte_token(piece.text);
      if (!byte || bytes[*byte])
        fail(Code::tokenizer, "byte piece ", id, " is '", piece.text.substr(0, 16),
             byte ? "', and there is another one for this byte" : "', expected <0x00> to <0xFF>");
      bytes.set(*byte);
    }
  }
  if (unknown != 1) fail(Code::tokenizer, "it has ", unknown, " unknown pieces, expected 1");
  if (bytes.count() != (model.byte_fallback ? 256 : 0))
    fail(Code::tokenizer, "it has ", bytes.count(), " byte pieces, expected ", model.byte_fallback ? 256 : 0,
         " for a model ", model.byte_fallback ? "with" : "without", " byte fallback");
}

std::string_view algorithm_name(SentencePieceAlgorithm algorithm) {
  switch (algorithm) {
    case SentencePieceAlgorithm::unigram: return "unigram";
    case SentencePieceAlgorithm::bpe: return "bpe";
    case SentencePieceAlgorithm::word: return "word";
    case SentencePieceAlgorithm::character: return "char";
  }
  return "";
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::span<const std::byte> bytes, std::string_view name) {
  const std::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  SentencePieceModel model;
  try {
    if (bytes.size() > kMostBytes)
      fail(Code::tokenizer, "it has ", bytes.size(), " bytes, the limit is ", kMostBytes);
    model = read_model(file);
    check_pieces(model);
  } catch (const Error& error) {
    fail(Code::tokenizer, name, " is not a SentencePiece model: ", error.what(), likely_mistake(file));
  }
  if (model.algorithm != SentencePieceAlgorithm::bpe)
    fail(Code::tokenizer, name, " is a SentencePiece model of the type ", algorithm_name(model.algorithm),
         ", which this version does not read: train the tokenizer with --model_type=bpe");
  return model;
}

}  // namespace tinyzh
