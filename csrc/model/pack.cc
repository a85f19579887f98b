#include "model/pack.h"

#include <vector>

#include "io/tz.h"

namespace tinyzh {

void write_tz(const std::string& path, const Weights& weights,
              const std::function<void(size_t, size_t)>& progress) {
  std::vector<TzPart> parts;
  const auto add = [&](TensorId id, size_t layer) {
    if (const float* values = weights.vector(id, layer))
      return parts.push_back({id, layer, std::as_bytes(std::span(values, static_cast<size_t>(weights.config.dim)))});
    const Matrix& m = weights.matrix(id, layer);
    switch (m.dtype) {
      case DType::float32: return parts.push_back({id, layer, std::as_bytes(std::span(m.f32, m.rows * m.cols))});
      case DType::int8: return parts.push_back({id, layer, m.q8.packed_values(), m.q8.packed_scales()});
      case DType::int4: return parts.push_back({id, layer, m.q4.packed()});
    }
  };
  for (size_t i = 0; i < kTensorCount; ++i) {
    const auto id = static_cast<TensorId>(i);
    for (size_t layer = 0; layer < tensor_shape(weights.config, id).layers; ++layer) add(id, layer);
  }
  write_tz(path, weights.config, packing_of(weights.dtype), weights.group_size, parts, progress);
}

}  // namespace tinyzh
