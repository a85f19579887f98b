// Byte-pair encoding with a SentencePiece `tokenizer.model`: the ids are those of the sentencepiece
// library, which is not needed.  docs/tokenizers.md says where a file is refused that the library opens.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/normalizer.h"
#include "text/piece_index.h"
#include "text/vocabulary.h"

namespace tinyzh {

class SentencePieceTokenizer {
 public:
  // The longest symbol that a model may define: bounds the work for each character of a text.
  static constexpr size_t kLongestSymbol = 1024;

  // The bytes are not needed any more when it is made.  Throws Error(Code::tokenizer) for what is not a
  // SentencePiece model, or not one of BPE.
  SentencePieceTokenizer(std::span<const std::byte> bytes, std::string_view name);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  bool adds_dummy_prefix() const { return normalizer_.adds_dummy_prefix(); }

  // The ids of any bytes, without BOS and EOS, in O(n log n).  `dummy_prefix` overrides what the file says
  // about a space in front.  Normalised to more than 2 GiB: Error(Code::invalid_argument).
  std::vector<int32_t> encode(std::string_view text, std::optional<bool> dummy_prefix = {}) const;

 private:
  SentencePieceTokenizer(const SentencePieceModel& model, std::string_view name);

  Normalizer normalizer_;
  Vocabulary vocabulary_;
  PieceIndex index_;             // the pieces as the file spells them
  std::vector<float> scores_;    // by id
  std::vector<int32_t> unused_;  // ids, ascending
  std::array<int32_t, 256> byte_ids_{};
  bool has_bytes_;
  int32_t unknown_ = 0;
};

}  // namespace tinyzh
