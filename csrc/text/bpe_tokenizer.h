// tokenizer.bin of llama2.c: a vocabulary with merge scores, and byte-pair encoding over it.
// All dialects of docs/tokenizers.md are read; what a .bin cannot record (normalisation, the dummy
// prefix, space rules) is chosen by EncodeOptions.
//
// With the same options as a SentencePiece .model of the same vocabulary the ids are the same.  With
// dummy_prefix and without squeeze_spaces they are those of llama2.c's `run` wherever that is defined.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/piece_index.h"
#include "text/vocabulary.h"

namespace tinyzh {

// Number of entries in a tokenizer.bin, which does not record it: walks the file.
// Throws Error(Code::tokenizer) when the bytes are not a tokenizer.bin.
int32_t count_tokenizer_entries(std::span<const std::byte> bytes, std::string_view name);

struct EncodeOptions {
  bool bos = true;
  bool eos = false;
  bool dummy_prefix = true;   // a space before non-empty text, if the vocabulary has a space piece
  bool squeeze_spaces = false;  // SentencePiece's remove_extra_whitespaces: trim, collapse runs
  // What NFKC makes of Chinese punctuation, where the vocabulary lacks the wide form and has the narrow
  // one: U+FF01..U+FF5D become ASCII, U+3000 a space, "…" three full stops.  (Not U+FF5E, the wide
  // tilde: SentencePiece keeps it.)
  bool narrow_punctuation = true;
};

class BpeTokenizer {
 public:
  // Throws Error(Code::tokenizer): truncated, trailing bytes, a count other than vocab_size,
  // a length that passes the end, a score that is not a number.
  BpeTokenizer(std::span<const std::byte> bytes, int32_t vocab_size, std::string_view name);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  bool has_byte_fallback() const { return has_bytes_; }  // a token for each of the 256 bytes
  bool has_space() const { return has_space_; }          // a piece " ": what a dummy prefix needs

  // Ids of valid or invalid UTF-8 (an invalid byte is treated as a code point outside the
  // vocabulary).  O(n log n) in the length of the text.
  //
  // What is not in the vocabulary becomes its bytes; without byte fallback, one unknown id for each
  // run of such characters.  A text longer than 2 GiB: Error(Code::invalid_argument).
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;

  // The raw bytes; no dummy prefix removed.  Error(Code::invalid_argument) for an id out of range.
  std::string decode(std::span<const int32_t> ids) const;

 private:
  std::string prepare(std::string_view text, const EncodeOptions& options) const;
  std::string narrowed(std::string_view character) const;

  Vocabulary vocabulary_;
  std::vector<float> scores_;  // by id
  PieceIndex index_;
  std::array<int32_t, 256> byte_ids_;
  bool has_bytes_ = false;
  bool has_space_ = false;
};

}  // namespace tinyzh
