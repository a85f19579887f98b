#include "model/kv_cache.h"

#include <cstring>

namespace tinyzh {
namespace {

constexpr size_t whole_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t element_bytes(KvType type) {
  switch (type) {
    case KvType::float16: return 2;
    case KvType::int8: return 1;
    case KvType::float32: break;
  }
  return 4;
}

// x (n) to every sixteenth place, or to neighbouring ones.
template <class T>
void put(const T* x, size_t n, std::byte* place, size_t step) {
  T* target = reinterpret_cast<T*>(place);
  for (size_t i = 0; i < n; ++i) target[i * step] = x[i];
}

}  // namespace

std::string_view kv_type_name(KvType type) {
  switch (type) {
    case KvType::float16: return "float16";
    case KvType::int8: return "int8";
    case KvType::float32: break;
  }
  return "float32";
}

KvLayout::KvLayout(const Config& config, KvType kv_type)
    : type(kv_type),
      head_size(static_cast<size_t>(config.head_size())),
      kv_heads(static_cast<size_t>(config.n_kv_heads)),
      layers(static_cast<size_t>(config.n_layers)) {
  const size_t size = element_bytes(type);
  value_offset = whole_lines(size * head_size * kBlockPositions);
  scale_offset = value_offset + whole_lines(size * kBlockPositions * padded8(head_size));
  stride = scale_offset + (type == KvType::int8 ? 2 * kBlockPositions * sizeof(float) : 0);
}

// x (head_size) rounded to the type: one element every `step` places from `place` on; int8 has a scale too.
void KvLayout::put_row(const Kernels& kernels, const float* x, std::byte* place, size_t step, std::byte* scale_place,
                       float* scratch) const {
  switch (type) {
    case KvType::float32: return put(x, head_size, place, step);
    case KvType::float16: {
      auto* halves = reinterpret_cast<uint16_t*>(scratch);
      kernels.narrow(halves, x, head_size);
      return put(halves, head_size, place, step);
    }
    case KvType::int8: {
      auto* bytes = reinterpret_cast<int8_t*>(scratch);  // padded to whole groups
      float* sums = scratch + (head_size + 2 * kGroupColumns) / 4;
      const float scale = kernels.quantise_row(bytes, sums, x, head_size);
      std::memcpy(scale_place, &scale, sizeof scale);
      return put(bytes, head_size, place, step);
    }
  }
}

void KvLayout::store(const Kernels& kernels, std::byte* const* blocks, size_t layer, size_t position, const float* k,
                     const float* v, float* scratch) const {
  std::byte* block = blocks[position / kBlockPositions];
  const size_t slot = position % kBlockPositions, bytes = element_bytes(type), scale = slot * sizeof(float);
  for (size_t h = 0; h < kv_heads; ++h, k += head_size, v += head_size) {
    const AttentionHead at = head(blocks, layer, h, position + 1);
    put_row(kernels, k, block + at.keys + slot * bytes, kBlockPositions, block + at.key_scales + scale, scratch);
    put_row(kernels, v, block + at.values + slot * padded8(head_size) * bytes, 1, block + at.value_scales + scale, scratch);
  }
}

}  // namespace tinyzh
