// The entries of a tokenizer.bin as they stand in the file, and the pieces they mean.
//
//   uint32 max_token_length, then for each token: float score, int32 length, bytes   (little-endian)
//
// The file holds no count: it ends where its last entry ends.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace tinyzh {

struct TokenizerEntry {
  float score;             // a number; infinity is one
  std::string_view bytes;  // points into the file
};

// Throws Error(Code::tokenizer) unless the bytes are whole entries up to the last byte, at least the
// three that every vocabulary begins with, and fewer than 2 GiB.  `name` is the file's, for the message.
std::vector<TokenizerEntry> read_tokenizer_entries(std::span<const std::byte> bytes,
                                                   std::string_view name);

// What the entries mean, in every dialect of docs/tokenizers.md.  Total: any entries have a meaning.
std::vector<Piece> interpret_entries(std::span<const TokenizerEntry> entries);

}  // namespace tinyzh
