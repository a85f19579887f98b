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

void KvCache::store(const Kernels& kernels, size_t layer, size_t position, const float* k, const float* v, float* scratch) {
  std::byte* block = table_[position / kBlockPositions];
  const size_t slot = position % kBlockPositions, size = layout_.head_size, padded = padded8(size);
  for (size_t h = 0; h < layout_.kv_heads; ++h, k += size, v += size) {
    const AttentionHead head = layout_.head(table_.data(), layer, h, position + 1);
    const auto both = [&](auto place) {  // keys side by side with the other positions, values one after another
      place(k, head.keys, head.key_scales, slot, kBlockPositions);
      place(v, head.values, head.value_scales, slot * padded, size_t{1});
    };
    switch (layout_.type) {
      case KvType::float32:
        both([&](const float* x, size_t offset, size_t, size_t first, size_t step) {
          put(x, size, block + offset + first * sizeof(float), step);
        });
        break;
      case KvType::float16:
        both([&](const float* x, size_t offset, size_t, size_t first, size_t step) {
          auto* halves = reinterpret_cast<uint16_t*>(scratch);
          kernels.narrow(halves, x, size);
          put(halves, size, block + offset + first * sizeof(uint16_t), step);
        });
        break;
      case KvType::int8:
        both([&](const float* x, size_t offset, size_t scales, size_t first, size_t step) {
          auto* bytes = reinterpret_cast<int8_t*>(scratch);  // padded to whole groups
          float* sums = scratch + (size + 2 * kGroupColumns) / 4;
          const float scale = kernels.quantise_row(bytes, sums, x, size);
          put(bytes, size, block + offset + first, step);
          std::memcpy(block + scales + slot * sizeof(float), &scale, sizeof scale);
        });
        break;
    }
  }
}

}  // namespace tinyzh
