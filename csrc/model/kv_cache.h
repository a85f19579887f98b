// Keys and values of one sequence, in blocks of kBlockPositions positions reached through a table, so
// that memory grows with the text and blocks can later be shared or moved between sequences.
#pragma once

#include <cstddef>
#include <vector>

#include "base/aligned.h"
#include "io/config.h"
#include "kernels/kernels.h"

namespace tinyzh {

// Where things lie inside a block:
//   for each layer and kv head: keys (head_size, kBlockPositions), values (kBlockPositions, padded8(head_size)).
struct KvLayout {
  explicit KvLayout(const Config& config)
      : head_size(static_cast<size_t>(config.head_size())),
        kv_heads(static_cast<size_t>(config.n_kv_heads)),
        layers(static_cast<size_t>(config.n_layers)) {}

  size_t key_size() const { return head_size * kBlockPositions; }
  size_t value_size() const { return kBlockPositions * padded8(head_size); }
  size_t key_offset(size_t layer, size_t head) const { return (layer * kv_heads + head) * (key_size() + value_size()); }
  size_t value_offset(size_t layer, size_t head) const { return key_offset(layer, head) + key_size(); }
  size_t block_size() const { return layers * kv_heads * (key_size() + value_size()); }  // floats

  size_t head_size, kv_heads, layers;
};

class KvCache {
 public:
  explicit KvCache(const Config& config) : layout_(config) {}

  const KvLayout& layout() const { return layout_; }
  // Makes room for positions 0 ... positions - 1; throws std::bad_alloc.
  void reserve(size_t positions) {
    while (table_.size() * kBlockPositions < positions) {
      blocks_.emplace_back(layout_.block_size());
      table_.push_back(blocks_.back().data());
    }
  }
  float* const* table() const { return table_.data(); }
  size_t bytes() const { return blocks_.size() * layout_.block_size() * sizeof(float); }

  // Stores one position of one layer: k and v (kv_heads, head_size).
  void store(size_t layer, size_t position, const float* k, const float* v) {
    float* block = table_[position / kBlockPositions];
    const size_t slot = position % kBlockPositions, padded = padded8(layout_.head_size);
    for (size_t h = 0; h < layout_.kv_heads; ++h) {
      float* keys = block + layout_.key_offset(layer, h) + slot;
      float* values = block + layout_.value_offset(layer, h) + slot * padded;
      for (size_t d = 0; d < layout_.head_size; ++d) {
        keys[d * kBlockPositions] = k[h * layout_.head_size + d];
        values[d] = v[h * layout_.head_size + d];
      }
    }
  }

 private:
  KvLayout layout_;
  std::vector<AlignedBuffer<float>> blocks_;
  std::vector<float*> table_;
};

}  // namespace tinyzh
