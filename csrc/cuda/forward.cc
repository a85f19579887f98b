#include "cuda/forward.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "cuda/allocators.h"

namespace tinyzh::cuda {
namespace {

unsigned u(size_t n) { return static_cast<unsigned>(n); }

}  // namespace

template <class T>
AlignedBuffer<T> Forward::uploaded(std::span<const T> values) const {
  AlignedBuffer<T> buffer = room<T>(values.size());
  if (!values.empty()) queue_.upload(buffer.data(), values.data(), values.size_bytes());
  return buffer;
}

Forward::Forward(const tinyzh::Weights& w, KvType kv_type)
    : config_(w.config), dtype_(w.dtype), layout_(w.config, kv_type), memory_(device_memory()), rope_(w.config) {
  if (const std::string why = device_facts().problem; !why.empty())
    fail(Code::backend, "device is cuda: ", why, "; take device cpu or auto (tinyzh doctor shows what is there)");
  if (kv_type == KvType::int8)
    fail(Code::backend, "kv_dtype is int8, and device cuda keeps keys and values as float32 or float16: take one of these");
  const size_t dim = static_cast<size_t>(config_.dim);
  const auto vector = [&](const float* values) { return uploaded(std::span(values, dim)); };

  // Rows of the embedding are read one by one: as fp32, whatever the products need.
  std::vector<float> embedding(w.tok_emb.rows * w.tok_emb.cols);
  for (size_t row = 0; row < w.tok_emb.rows; ++row) w.tok_emb.row(row, embedding.data() + row * w.tok_emb.cols);
  embedding_ = uploaded(std::span<const float>(embedding));
  for (const LayerWeights& layer : w.layers) {
    layers_.push_back({vector(layer.rms_att), vector(layer.rms_ffn), uploaded(layer.wq), uploaded(layer.wk), uploaded(layer.wv),
                       uploaded(layer.wo), uploaded(layer.w1), uploaded(layer.w2), uploaded(layer.w3)});
  }
  rms_final_ = vector(w.rms_final);
  if (dtype_ != DType::float32 || !config_.tied) wcls_ = uploaded(w.wcls());
}

Forward::DeviceMatrix Forward::uploaded(const Matrix& m) {
  DeviceMatrix device{m.rows, m.cols, m.dtype, {}, {}, {}};
  const auto append = [&](std::span<const std::byte> first, std::span<const std::byte> second = {}) {
    device.bytes = room<std::byte>(first.size() + second.size());
    queue_.upload(device.bytes.data(), first.data(), first.size());
    if (!second.empty()) queue_.upload(device.bytes.data() + first.size(), second.data(), second.size());
  };
  switch (m.dtype) {
    case DType::float32: append(std::as_bytes(std::span(m.f32, m.rows * m.cols))); break;
    case DType::int4:
      append(m.q4.packed());
      device.q4 = {reinterpret_cast<const Q4Group*>(device.bytes.data()), m.q4.groups(), m.rows};
      break;
    case DType::int8: {
      append(m.q8.packed_values(), m.q8.packed_scales());
      const auto* values = reinterpret_cast<const int8_t*>(m.q8.packed_values().data());
      const auto* scales = reinterpret_cast<const float*>(m.q8.packed_scales().data());
      const auto* there = reinterpret_cast<const int8_t*>(device.bytes.data());
      const auto* scales_there = reinterpret_cast<const float*>(device.bytes.data() + m.q8.packed_values().size());
      for (size_t first = 0; first < m.q8.panels();) {
        const Q8Matrix::Run run = m.q8.run(first, m.q8.panels());
        Q8Panels panels = run.panels;
        panels.values = there + (panels.values - values);
        panels.scales = scales_there + (panels.scales - scales);
        kept_.push_back(uploaded(std::as_bytes(std::span(panels.segments, panels.segment_count))));
        panels.segments = reinterpret_cast<const Segment*>(kept_.back().data());
        const uint32_t* row_of = nullptr;
        if (!m.q8.in_order()) {
          kept_.push_back(uploaded(std::as_bytes(std::span(m.q8.rows_of_panel(first), (run.end - first) * kPanelRows))));
          row_of = reinterpret_cast<const uint32_t*>(kept_.back().data());
        }
        device.q8.push_back({panels, row_of});
        first = run.end;
      }
      break;
    }
  }
  return device;
}

Forward::Activation Forward::activation(size_t rows, size_t cols) const {
  const size_t stride = (cols + kGroupColumns - 1) / kGroupColumns * kGroupColumns;
  Activation a{room<float>(rows * cols), {}, {}, {}, u(cols), u(stride)};
  if (dtype_ == DType::float32) return a;
  a.q8 = room<int8_t>(rows * stride);
  a.sums = room<float>(rows * stride / kGroupColumns);
  a.scales = room<float>(rows);
  return a;
}

void Forward::reserve(std::span<const Row> rows) {
  size_t positions = 0;
  for (const Row& row : rows) positions = std::max<size_t>(positions, static_cast<size_t>(row.position) + 1);
  if (positions > rope_rows_) {
    const size_t wanted = std::max(positions, 2 * rope_rows_), pairs = layout_.head_size / 2;
    rope_.reserve(wanted);
    cos_ = uploaded(std::span(rope_.cos(0), wanted * pairs));
    sin_ = uploaded(std::span(rope_.sin(0), wanted * pairs));
    rope_rows_ = wanted;
  }
  const size_t B = std::max(rows.size(), capacity_), D = static_cast<size_t>(config_.dim);
  const size_t heads = static_cast<size_t>(config_.n_heads);
  if (B > capacity_ || positions > positions_) {
    queue_.wait();  // nobody needs the old ones any more
    positions_ = std::max(positions, 2 * positions_);
    scores_ = room<float>(B * heads * positions_);
  }
  if (B == capacity_) return;
  const size_t H = static_cast<size_t>(config_.hidden_dim), kv = static_cast<size_t>(config_.kv_dim());
  capacity_ = 0;  // until all of it is there
  x_ = room<float>(B * D);
  y_ = room<float>(B * D);
  q_ = room<float>(B * D);
  k_ = room<float>(B * kv);
  v_ = room<float>(B * kv);
  up_ = room<float>(B * H);
  logits_ = room<float>(B * static_cast<size_t>(config_.vocab_size));
  normed_ = activation(B, D);
  att_ = activation(B, D);
  gate_ = activation(B, H);
  tokens_ = room<int32_t>(B);
  row_positions_ = room<int32_t>(B);
  tables_ = room<std::byte* const*>(B);
  capacity_ = B;
}

void Forward::quantise(Activation& a, size_t rows) const {
  if (dtype_ != DType::float32)
    quantise_rows(queue_, a.q8.data(), a.sums.data(), a.scales.data(), a.f32.data(), a.cols, a.stride, u(rows));
}

void Forward::product(float* out, const DeviceMatrix& m, const Activation& in, size_t rows) const {
  const Q8Rows x{in.q8.data(), in.sums.data(), in.scales.data(), in.stride};
  switch (m.dtype) {
    case DType::float32:
      return matmul_f32(queue_, out, m.rows, reinterpret_cast<const float*>(m.bytes.data()), in.f32.data(), in.cols, u(m.rows),
                        in.cols, u(rows));
    case DType::int4: return matmul_q4(queue_, out, m.rows, m.q4, x, u(rows));
    case DType::int8:
      for (const DeviceMatrix::Run& run : m.q8) matmul_q8(queue_, out, m.rows, run.panels, run.row_of, x, u(rows));
  }
}

void Forward::norm(Activation& out, const AlignedBuffer<float>& weight, bool has_branch, size_t rows) {
  residual_norm(queue_, out.f32.data(), x_.data(), has_branch ? y_.data() : nullptr, weight.data(), out.cols, config_.norm_eps,
                u(rows));
  quantise(out, rows);
}

void Forward::begin(std::span<const Row> rows, float* logits) {
  begun_ = false;
  if (rows.empty()) return;
  reserve(rows);
  rows_ = rows;
  wanted_ = logits;
  begun_ = true;
}

bool Forward::proceed(ThreadPool::Clock::time_point, const Observer& observer) {
  if (!begun_) return true;
  begun_ = false;
  const size_t B = rows_.size(), D = static_cast<size_t>(config_.dim), H = static_cast<size_t>(config_.hidden_dim);
  const size_t kv = static_cast<size_t>(config_.kv_dim()), V = static_cast<size_t>(config_.vocab_size);

  // Tokens, positions and tables of blocks; rows of one sequence share its table.
  std::vector<int32_t> tokens, positions;
  std::vector<std::byte*> blocks;
  std::vector<std::pair<std::byte* const*, size_t>> tables;  // of the host, and where it is in `blocks`
  std::vector<size_t> table_of, sampled;
  for (size_t b = 0; b < B; ++b) {
    const Row& row = rows_[b];
    tokens.push_back(row.token);
    positions.push_back(row.position);
    if (row.wants_logits) sampled.push_back(b);
    size_t last = static_cast<size_t>(row.position);
    if (!tables.empty() && tables.back().first == row.blocks && blocks.size() - tables.back().second > last / kBlockPositions) {
      table_of.push_back(tables.back().second);
      continue;
    }
    for (size_t next = b + 1; next < B && rows_[next].blocks == row.blocks; ++next)
      last = std::max(last, static_cast<size_t>(rows_[next].position));
    tables.emplace_back(row.blocks, blocks.size());
    table_of.push_back(blocks.size());
    blocks.insert(blocks.end(), row.blocks, row.blocks + last / kBlockPositions + 1);
  }
  if (blocks_.size() < blocks.size()) blocks_ = room<std::byte*>(2 * blocks.size());
  std::vector<std::byte* const*> pointers;
  for (size_t at : table_of) pointers.push_back(blocks_.data() + at);
  queue_.upload(tokens_.data(), tokens.data(), B * sizeof(int32_t));
  queue_.upload(row_positions_.data(), positions.data(), B * sizeof(int32_t));
  queue_.upload(blocks_.data(), blocks.data(), blocks.size() * sizeof(std::byte*));
  queue_.upload(tables_.data(), pointers.data(), B * sizeof(std::byte* const*));
  const Rows rows{tokens_.data(), row_positions_.data(), tables_.data(), u(B)};

  std::vector<float> seen;
  const auto show = [&](const char* name, int layer, const float* values, size_t count, size_t cols) {
    if (!observer) return;
    seen.resize(count * cols);
    queue_.download(seen.data(), values, seen.size() * sizeof(float));
    observer({name, layer, seen.data(), count, cols, cols});
  };

  // The paper, top to bottom, as in model/forward.cc.
  embed_rows(queue_, x_.data(), embedding_.data(), rows, u(D));
  for (size_t l = 0; l < layers_.size(); ++l) {
    const DeviceLayer& layer = layers_[l];
    const int n = static_cast<int>(l);
    const AttentionHead head = layout_.head(nullptr, l, 0, 1);
    const CacheLayout cache{head.keys, layout_.stride, layout_.value_offset, u(layout_.head_size), u(padded8(layout_.head_size)),
                            u(static_cast<size_t>(config_.n_heads)), u(layout_.kv_heads), layout_.type};
    norm(normed_, layer.rms_att, l > 0, B);
    show("x", n, x_.data(), B, D);
    show("att_norm", n, normed_.f32.data(), B, D);
    product(q_.data(), layer.wq, normed_, B);
    product(k_.data(), layer.wk, normed_, B);
    product(v_.data(), layer.wv, normed_, B);
    rope_store(queue_, q_.data(), k_.data(), v_.data(), rows, cos_.data(), sin_.data(), cache);
    show("q", n, q_.data(), B, D);
    show("k", n, k_.data(), B, kv);
    show("v", n, v_.data(), B, kv);
    attend(queue_, att_.f32.data(), q_.data(), rows, scores_.data(), positions_, cache);
    show("att", n, att_.f32.data(), B, D);
    quantise(att_, B);
    product(y_.data(), layer.wo, att_, B);
    show("att_out", n, y_.data(), B, D);
    norm(normed_, layer.rms_ffn, true, B);
    show("x_mid", n, x_.data(), B, D);
    show("ffn_norm", n, normed_.f32.data(), B, D);
    product(gate_.f32.data(), layer.w1, normed_, B);
    product(up_.data(), layer.w3, normed_, B);
    swiglu(queue_, gate_.f32.data(), up_.data(), B * H);
    quantise(gate_, B);
    show("gate", n, gate_.f32.data(), B, H);
    product(y_.data(), layer.w2, gate_, B);
    show("ffn_out", n, y_.data(), B, D);
  }
  const size_t S = sampled.size();
  if (S == 0) return true;
  residual_norm(queue_, normed_.f32.data(), x_.data(), y_.data(), rms_final_.data(), u(D), config_.norm_eps, u(B));
  for (size_t s = 0; s < S; ++s)  // to the front, which is never behind
    if (sampled[s] != s) queue_.copy(normed_.f32.data() + s * D, normed_.f32.data() + sampled[s] * D, D * sizeof(float));
  quantise(normed_, S);
  show("final_norm", -1, normed_.f32.data(), S, D);
  if (wcls_.rows > 0)
    product(logits_.data(), wcls_, normed_, S);
  else
    matmul_f32(queue_, logits_.data(), V, embedding_.data(), normed_.f32.data(), D, u(V), u(D), u(S));
  queue_.download(wanted_, logits_.data(), S * V * sizeof(float));
  if (observer) observer({"logits", -1, wanted_, S, V, V});
  return true;
}

void Forward::copy_block(std::byte* to, const std::byte* from, size_t bytes) const { queue_.copy(to, from, bytes); }

}  // namespace tinyzh::cuda
