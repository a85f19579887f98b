// Byte-pair merging: a text is cut into characters, then, over and over, the adjacent pair that
// together makes the piece with the best score becomes one, the leftmost pair where scores are equal.
// SentencePiece and llama2.c both define the result like this; llama2.c looks at every pair again for
// each merge, here a heap keeps the candidates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/piece_index.h"
#include "text/symbol_set.h"

namespace tinyzh {

struct BpeRules {
  const PieceIndex& index;
  std::span<const float> scores;  // one for each id of the index

  // Only in SentencePiece's models:
  const SymbolSet* symbols = nullptr;     // cut out of the text first; they take no part in merges
  std::span<const int32_t> unused = {};  // ids, ascending: such a piece only serves to reach longer ones;
                                         // what is left of it is taken apart, or absent if it is a character
};

struct TextPiece {
  std::string_view text;
  int32_t id;  // PieceIndex::kAbsent: a character that is not in the vocabulary
};

struct Segmentation {
  std::vector<TextPiece> pieces;  // in order; their texts together are the whole text
  size_t lookups = 0;             // questions to the index: the measure of the work, at most 6 a character
};

// Throws Error(Code::invalid_argument) for a text of 2 GiB or more.  A byte that does not belong to a
// well-formed character counts as a character.
Segmentation bpe_merge(std::string_view text, const BpeRules& rules);

}  // namespace tinyzh
