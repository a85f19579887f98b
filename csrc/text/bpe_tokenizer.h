// tokenizer.bin of llama2.c: a vocabulary with merge scores, and byte-pair encoding over it.
// All dialects of docs/tokenizers.md are read; what a .bin cannot record (normalisation, the dummy
// prefix, space rules) is chosen by EncodeOptions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/vocabulary.h"

namespace tinyzh {

// Number of entries in a tokenizer.bin, which does not record it: walks the file.
// Throws Error(Code::tokenizer) when the bytes are not a tokenizer.bin.
int32_t count_tokenizer_entries(std::span<const std::byte> bytes, std::string_view name);

struct EncodeOptions {
  bool bos = true;
  bool eos = false;
  bool dummy_prefix = true;   // a space piece before non-empty text, if the vocabulary has one
  bool squeeze_spaces = false;  // SentencePiece's remove_extra_whitespaces: trim, collapse runs
  bool narrow_punctuation = true;  // a full-width form the vocabulary lacks becomes the half-width it has
};

class BpeTokenizer {
 public:
  // Throws Error(Code::tokenizer): truncated, trailing bytes, a count other than vocab_size,
  // a length that passes the end, a score that is not a number.
  BpeTokenizer(std::span<const std::byte> bytes, int32_t vocab_size, std::string_view name);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  bool has_byte_fallback() const { return has_bytes_; }
  // Ids of valid or invalid UTF-8 (an invalid byte is treated as a code point outside the
  // vocabulary).  O(n log n) in the length of the text.
  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const;
  std::string decode(std::span<const int32_t> ids) const;  // the raw bytes; no dummy prefix removed

 private:
  Vocabulary vocabulary_;
  std::vector<float> scores_;
  std::unordered_map<std::string, int32_t> ids_;
  int32_t byte_ids_[256];
  bool has_bytes_ = false;
};

}  // namespace tinyzh
