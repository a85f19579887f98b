// A SentencePiece `tokenizer.model` as it stands in the file: a protocol buffer with the pieces, how the
// model was trained, and how text is normalised before it is cut.  parse is pure and total: any bytes are
// such a file or an Error(Code::tokenizer).
//
// Fields that encoding does not need (the rest of the training options, the denormaliser, the self-test)
// are skipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace tinyzh {

// The numbers are the file's.
enum class SentencePieceType : uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
enum class SentencePieceAlgorithm : uint8_t { unigram = 1, bpe = 2, word = 3, character = 4 };

struct SentencePiece {
  std::string_view text;  // never empty
  float score = 0.0f;     // a number
  SentencePieceType type = SentencePieceType::normal;
};

struct NormalizerSpec {
  std::string_view character_map = {};  // precompiled_charsmap; empty: characters stay as they are
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;             // a space becomes "▁"
  bool treat_whitespace_as_suffix = false;    // the dummy goes to the end (an option of the trainer's)
};

// Its views point into the file.
struct SentencePieceModel {
  std::vector<SentencePiece> pieces;  // by id; exactly one is unknown
  SentencePieceAlgorithm algorithm = SentencePieceAlgorithm::unigram;
  bool byte_fallback = false;                        // then a byte piece for each byte; otherwise none
  std::string_view unknown_surface = " \u2047 ";  // what the unknown piece adds to a text
  NormalizerSpec normalizer;
};

// `name` is the file's, for the messages.  A model that is well-formed but was not trained with BPE is
// refused by the name of its algorithm.
SentencePieceModel parse_sentencepiece_model(std::span<const std::byte> bytes, std::string_view name);

}  // namespace tinyzh
