// text -> id, for the pieces that text can match: the normal ones.
//
// A hash table of its own, because it is filled on the start-up path and asked three times for every
// character of a prompt: linear probing in one array, the bytes of all pieces in another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace tinyzh {

class PieceIndex {
 public:
  static constexpr int32_t kAbsent = -1;

  PieceIndex() = default;  // finds nothing
  // The bytes of all pieces together must be fewer than 4 GiB (a tokenizer.bin is at most 2 GiB).
  explicit PieceIndex(const Vocabulary& vocabulary);

  // The lowest id whose piece is exactly `text`, or kAbsent.
  int32_t find(std::string_view text) const;

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = kAbsent;  // kAbsent: empty
    uint32_t offset = 0;   // into bytes_
    uint32_t length = 0;
  };
  size_t slot_of(std::string_view text, uint32_t hash) const;  // where it is, or the empty slot for it

  std::vector<Slot> slots_;  // a power of two, at most half of them full
  std::string bytes_;
  size_t longest_ = 0;
};

}  // namespace tinyzh
