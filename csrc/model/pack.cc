#include "model/pack.h"

#include <vector>

#include "io/tz.h"

namespace tinyzh {

void write_tz(const std::string& path, const Weights& weights,
              const std::function<void(size_t, size_t)>& progress) {
  using enum TensorId;
  const auto layers = weights.layers.size();
  std::vector<TzPart> parts;
  const auto vector = [&](TensorId id, size_t layer, const float* values) {
    parts.push_back({id, layer, std::as_bytes(std::span(values, static_cast<size_t>(weights.config.dim)))});
  };
  const auto matrix = [&](TensorId id, size_t layer, const Matrix& m) {
    switch (m.dtype) {
      case DType::float32: return parts.push_back({id, layer, std::as_bytes(std::span(m.f32, m.rows * m.cols))});
      case DType::int8: return parts.push_back({id, layer, m.q8.packed_values(), m.q8.packed_scales()});
      case DType::int4: return parts.push_back({id, layer, m.q4.packed()});
    }
  };
  const auto vectors = [&](TensorId id, const float* LayerWeights::* member) {
    for (size_t l = 0; l < layers; ++l) vector(id, l, weights.layers[l].*member);
  };
  const auto matrices = [&](TensorId id, Matrix LayerWeights::* member) {
    for (size_t l = 0; l < layers; ++l) matrix(id, l, weights.layers[l].*member);
  };
  matrix(tok_emb, 0, weights.tok_emb);
  vectors(rms_att, &LayerWeights::rms_att);
  matrices(wq, &LayerWeights::wq);
  matrices(wk, &LayerWeights::wk);
  matrices(wv, &LayerWeights::wv);
  matrices(wo, &LayerWeights::wo);
  vectors(rms_ffn, &LayerWeights::rms_ffn);
  matrices(w1, &LayerWeights::w1);
  matrices(w2, &LayerWeights::w2);
  matrices(w3, &LayerWeights::w3);
  vector(rms_final, 0, weights.rms_final);
  if (!weights.config.tied) matrix(wcls, 0, weights.wcls());
  write_tz(path, weights.config, packing_of(weights.dtype), weights.group_size, parts, progress);
}

}  // namespace tinyzh
