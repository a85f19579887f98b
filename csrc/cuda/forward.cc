#include "cuda/forward.h"

#include <string>

#include "base/error.h"
#include "cuda/allocators.h"
#include "model/rope.h"

namespace tinyzh::cuda {
namespace {

unsigned u(size_t n) { return static_cast<unsigned>(n); }
size_t whole(size_t n, size_t of) { return (n + of - 1) / of * of; }

const float* floats(const AlignedBuffer<std::byte>& bytes) { return reinterpret_cast<const float*>(bytes.data()); }

}  // namespace

template <class T>
AlignedBuffer<T> Forward::room(size_t count) const { return AlignedBuffer<T>(count, device_memory(), Fill::nothing); }

Forward::Forward(const tinyzh::Weights& w, Precision precision, KvType kv_type, const Queue& queue)
    : config_(w.config), precision_(precision), layout_(w.config, kv_type), queue_(queue) {
  const auto vector = [&](const float* values) { return uploaded(queue_, std::span(values, static_cast<size_t>(config_.dim))); };
  embedding_ = uploaded_rows(queue_, w.tok_emb, precision_, "tok_emb");
  for (size_t l = 0; l < w.layers.size(); ++l) {
    const LayerWeights& layer = w.layers[l];
    const auto named = [l](const Matrix& matrix, const char* name) -> Product::Factor {
      return {&matrix, concat(name, " of layer ", l)};
    };
    const auto side = is_ordered(precision_) ? Product::Side::one_after_the_other : Product::Side::alternating;
    layers_.push_back({vector(layer.rms_att), vector(layer.rms_ffn),
                       Product(queue_, precision_, {named(layer.wq, "wq"), named(layer.wk, "wk"), named(layer.wv, "wv")}),
                       Product(queue_, precision_, {named(layer.wo, "wo")}),
                       Product(queue_, precision_, {named(layer.w1, "w1"), named(layer.w3, "w3")}, side),
                       Product(queue_, precision_, {named(layer.w2, "w2")})});
  }
  rms_final_ = vector(w.rms_final);
  if (precision_ != Precision::float32 || !config_.tied)
    wcls_ = Product(queue_, precision_, {{&w.wcls(), config_.tied ? "tok_emb" : "wcls"}});

  const size_t positions = static_cast<size_t>(config_.seq_len), pairs = layout_.head_size / 2;
  RopeTable rope(config_);
  rope.reserve(positions);
  cos_ = uploaded(queue_, std::span(rope.cos(0), positions * pairs));
  sin_ = uploaded(queue_, std::span(rope.sin(0), positions * pairs));
}

Forward::Activation Forward::activation(size_t rows, size_t cols) const {
  Activation a;
  a.cols = cols;
  a.f32 = room<float>(rows * cols);
  if (is_quantised(precision_)) {
    const size_t stride = whole(cols, kGroupColumns);
    a.q8 = room<int8_t>(rows * stride);
    a.sums = room<float>(rows * stride / kGroupColumns);
    a.scales = room<float>(rows);
  } else if (precision_ != Precision::float32) {
    a.half = room<uint16_t>(whole(rows, 8) * whole(cols, 16));
  }
  return a;
}

Activations Forward::view(Activation& a, bool looked_at) const {
  const bool narrow = !is_ordered(precision_);
  const size_t stride = narrow ? whole(a.cols, 16) : is_quantised(precision_) ? whole(a.cols, kGroupColumns) : a.cols;
  return {precision_, u(a.cols), u(stride), narrow && !looked_at ? nullptr : a.f32.data(), a.q8.data(), a.sums.data(),
          a.scales.data(), a.half.data()};
}

CacheLayout Forward::cache_of_layer(size_t layer) const {
  return {layout_.head(nullptr, layer, 0, 1).keys, layout_.stride, layout_.value_offset, layout_.scale_offset,
          u(layout_.head_size), u(padded8(layout_.head_size)), u(static_cast<size_t>(config_.n_heads)), u(layout_.kv_heads),
          layout_.type};
}

void Forward::reserve(size_t rows) {
  const size_t D = static_cast<size_t>(config_.dim), H = static_cast<size_t>(config_.hidden_dim);
  const size_t kv = static_cast<size_t>(config_.kv_dim()), heads = static_cast<size_t>(config_.n_heads);
  x_ = room<float>(rows * D);
  y_ = room<float>(rows * D);
  q_ = room<float>(rows * D);
  k_ = room<float>(rows * kv);
  v_ = room<float>(rows * kv);
  if (is_ordered(precision_)) {
    gate_ = room<float>(rows * H);
    up_ = room<float>(rows * H);
  }
  if (needs_scores(precision_, cache_of_layer(0))) scores_ = room<float>(rows * heads * static_cast<size_t>(config_.seq_len));
  arrived_ = room<uint32_t>(rows);
  const std::vector<uint32_t> nobody(rows);
  queue_.upload(arrived_.data(), nobody.data(), rows * sizeof(uint32_t));
  logits_ = room<float>(rows * static_cast<size_t>(config_.vocab_size));
  normed_ = activation(rows, D);
  att_ = activation(rows, D);
  gated_ = activation(rows, H);
}

// The paper, top to bottom, as in model/forward.cc.  B rows, D = dim, H = hidden_dim.
void Forward::put(const Pass& pass, const Observer& observer) {
  const size_t B = pass.rows.count, D = static_cast<size_t>(config_.dim), H = static_cast<size_t>(config_.hidden_dim);
  const size_t kv = static_cast<size_t>(config_.kv_dim()), V = static_cast<size_t>(config_.vocab_size);
  const Activations normed = view(normed_, bool(observer)), att = view(att_, bool(observer)), gated = view(gated_, bool(observer));
  const AttentionScratch scratch{scores_.data(), static_cast<size_t>(config_.seq_len), arrived_.data()};

  std::vector<float> seen;
  const auto show = [&](const char* name, int layer, const float* values, size_t rows, size_t cols) {
    if (!observer) return;
    seen.resize(rows * cols);
    queue_.download(seen.data(), values, seen.size() * sizeof(float));
    observer({name, layer, seen.data(), rows, cols, cols});
  };
  const auto norm = [&](const AlignedBuffer<std::byte>& weight, bool has_branch, const int32_t* from, size_t rows) {
    residual_norm(queue_, normed, x_.data(), has_branch ? y_.data() : nullptr, floats(weight), from, config_.norm_eps, u(rows));
  };

  embed_rows(queue_, x_.data(), embedding_.data(), precision_, pass.rows, pass.slots, u(D));
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    const CacheLayout cache = cache_of_layer(l);
    const int n = static_cast<int>(l);
    norm(layer.rms_att, l > 0, nullptr, B);
    show("x", n, x_.data(), B, D);
    show("att_norm", n, normed.f32, B, D);
    layer.wqkv.put(queue_, {q_.data(), k_.data(), v_.data()}, normed, u(B));
    rope_store(queue_, q_.data(), k_.data(), v_.data(), pass.rows, floats(cos_), floats(sin_), cache);
    show("q", n, q_.data(), B, D);
    show("k", n, k_.data(), B, kv);
    show("v", n, v_.data(), B, kv);
    attend(queue_, att, q_.data(), pass.rows, scratch, cache);
    show("att", n, att.f32, B, D);
    layer.wo.put(queue_, {y_.data()}, att, u(B));
    show("att_out", n, y_.data(), B, D);
    norm(layer.rms_ffn, true, nullptr, B);
    show("x_mid", n, x_.data(), B, D);
    show("ffn_norm", n, normed.f32, B, D);
    if (is_ordered(precision_)) {
      layer.w13.put(queue_, {gate_.data(), up_.data()}, normed, u(B));
      swiglu(queue_, gated, gate_.data(), up_.data(), u(B));
    } else {
      layer.w13.put_gated(queue_, gated, normed, u(B));
    }
    show("gate", n, gated.f32, B, H);
    layer.w2.put(queue_, {y_.data()}, gated, u(B));
    show("ffn_out", n, y_.data(), B, D);
  }
  const size_t S = pass.sampled_count;
  if (S == 0) return;
  norm(rms_final_, true, pass.sampled, S);
  show("final_norm", -1, normed.f32, S, D);
  if (wcls_) {
    wcls_.put(queue_, {logits_.data()}, normed, u(S));
  } else {
    const Places places{{{logits_.data(), u(V), 0}, {}, {}}, 1, u((V + kPanelRows - 1) / kPanelRows)};
    matmul_f32(queue_, places, floats(embedding_), normed, u(S));
  }
  show("logits", -1, logits_.data(), S, V);
}

}  // namespace tinyzh::cuda
