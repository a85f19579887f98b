// Keys and values of a sequence, in blocks of kBlockPositions positions reached through a table, so that
// memory grows with the text and sequences can share blocks.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/aligned.h"
#include "io/config.h"
#include "kernels/kernels.h"

namespace tinyzh {

std::string_view kv_type_name(KvType type);

// Where things lie inside a block, in bytes.  For each layer and kv head: keys (head_size, kBlockPositions),
// values (kBlockPositions, padded8(head_size)) and, for int8, the scales of keys and of values
// (kBlockPositions) fp32; each of the pieces begins at a multiple of 64.
struct KvLayout {
  KvLayout(const Config& config, KvType type);

  AttentionHead head(const std::byte* const* blocks, size_t layer, size_t kv_head, size_t positions) const {
    const size_t keys = (layer * kv_heads + kv_head) * stride, values = keys + value_offset;
    const size_t scales = keys + scale_offset, next = keys + stride < block_bytes() ? keys + stride : 0;
    return {blocks, keys, values, scales, scales + kBlockPositions * sizeof(float), head_size, positions, next};
  }
  size_t block_bytes() const { return layers * kv_heads * stride; }
  static constexpr size_t blocks(size_t positions) { return (positions + kBlockPositions - 1) / kBlockPositions; }

  // Stores one position of one layer: k and v (kv_heads, head_size), rounded to the type.
  void store(const Kernels& kernels, std::byte* const* blocks, size_t layer, size_t position, const float* k,
             const float* v, float* scratch) const;
  // Memory that store() needs for itself.
  size_t scratch_floats() const { return head_size + 2 * kGroupColumns; }

  KvType type;
  size_t head_size, kv_heads, layers;
  size_t value_offset, scale_offset, stride;  // from the keys of a head to its values, its scales, the next head

 private:
  void put_row(const Kernels& kernels, const float* x, std::byte* place, size_t step, std::byte* scale_place,
               float* scratch) const;
};

// Blocks of one sequence that grow with it and are its own.
class KvCache {
 public:
  explicit KvCache(const KvLayout& layout, const Allocator& allocator = Allocator::system())
      : layout_(layout), allocator_(allocator) {}

  // Makes room for positions 0 ... positions - 1; throws std::bad_alloc.
  void reserve(size_t positions) {
    while (table_.size() * kBlockPositions < positions) {
      blocks_.emplace_back(layout_.block_bytes(), allocator_, Fill::nothing);
      table_.push_back(blocks_.back().data());
    }
  }
  std::byte* const* table() const { return table_.data(); }
  size_t bytes() const { return blocks_.size() * layout_.block_bytes(); }

 private:
  KvLayout layout_;
  Allocator allocator_;
  std::vector<AlignedBuffer<std::byte>> blocks_;
  std::vector<std::byte*> table_;
};

}  // namespace tinyzh
