#include "text/piece_index.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tinyzh {
namespace {

// Eight bytes a step; the multiplier is 2^64 divided by the golden ratio.
uint32_t hash_of(std::string_view text) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15u;
  uint64_t hash = text.size() * kMultiplier;
  while (!text.empty()) {
    uint64_t word = 0;
    const size_t taken = std::min<size_t>(text.size(), 8);
    std::memcpy(&word, text.data(), taken);
    hash = (std::rotl(hash, 29) ^ word) * kMultiplier;
    hash ^= hash >> 32;
    text.remove_prefix(taken);
  }
  return static_cast<uint32_t>(hash);
}

}  // namespace

PieceIndex::PieceIndex(const Vocabulary& vocabulary) {
  size_t total = 0;
  for (int32_t id = 0; id < vocabulary.size(); ++id) total += vocabulary[id].bytes.size();
  bytes_.reserve(total);
  slots_.resize(std::bit_ceil(2 * static_cast<size_t>(vocabulary.size()) + 1));

  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const Piece& piece = vocabulary[id];
    if (piece.kind != PieceKind::normal || piece.bytes.empty()) continue;
    const uint32_t hash = hash_of(piece.bytes);
    Slot& slot = slots_[slot_of(piece.bytes, hash)];
    if (slot.id != kAbsent) continue;  // the same text twice: the lower id stays
    slot = {hash, id, static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(piece.bytes.size())};
    bytes_ += piece.bytes;
    longest_ = std::max(longest_, piece.bytes.size());
  }
}

int32_t PieceIndex::find(std::string_view text) const {
  if (text.empty() || text.size() > longest_) return kAbsent;  // bounds the work for one question
  return slots_[slot_of(text, hash_of(text))].id;
}

size_t PieceIndex::slot_of(std::string_view text, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.id == kAbsent) return i;
    if (slot.hash == hash && slot.length == text.size() &&
        std::memcmp(bytes_.data() + slot.offset, text.data(), text.size()) == 0)
      return i;
  }
}

}  // namespace tinyzh
