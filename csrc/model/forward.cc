#include "model/forward.h"

#include <algorithm>
#include <cstring>

#include "base/fp_env.h"

namespace tinyzh {
namespace {

constexpr size_t kUnit = kPanelRows;  // output rows of the smallest piece of a product

size_t units(const Matrix& m) {
  return m.dtype == DType::int8 ? m.q8.panels() : (m.rows + kUnit - 1) / kUnit;  // phases may leave panels unfilled
}

// Units of one block: enough to be worth a thread's visit, little enough (a quarter of a millisecond at
// most) to balance threads and to stop in time.
size_t units_per_block(const Matrix& m, size_t rows) {
  constexpr size_t kLeastWeights = 1 << 17, kTogether = 4;  // units that kernels like to take together
  const size_t most_products = m.dtype == DType::float32 ? 1 << 23 : 1 << 25;
  const size_t per_unit = kUnit * m.cols;
  const size_t most = std::max<size_t>(1, most_products / (per_unit * rows));
  const size_t least = kLeastWeights / per_unit;
  return std::clamp<size_t>((least + kTogether - 1) / kTogether * kTogether, 1, most);
}

}  // namespace

void Forward::Activation::resize(size_t rows, size_t width, const Allocator& allocator) {
  cols = width;
  stride = (width + kGroupColumns - 1) / kGroupColumns * kGroupColumns;
  f32 = AlignedBuffer<float>(rows * cols, allocator);
  q8 = AlignedBuffer<int8_t>(rows * stride, allocator);
  sums = AlignedBuffer<float>(rows * stride / kGroupColumns, allocator);
  scales = AlignedBuffer<float>(rows, allocator);
}

Forward::Forward(const Weights& weights, KvType kv_type, const Kernels& kernels, ThreadPool& pool,
                 const Allocator& allocator)
    : w_(weights),
      kernels_(kernels),
      pool_(pool),
      layout_(weights.config, kv_type),
      allocator_(allocator),
      rope_(weights.config),
      scores_(pool.threads()) {
  for (size_t i = 0; i < pool.threads(); ++i) kv_scratch_.emplace_back(layout_.scratch_floats(), allocator_);
}

void Forward::copy_block(std::byte* to, const std::byte* from, size_t bytes) const { std::memcpy(to, from, bytes); }

void Forward::run(std::span<const Row> rows, float* logits, const Observer& observer) {
  begin(rows, logits);
  if (observer) observer_ = &observer;
  proceed(ThreadPool::kNever);
  observer_ = nullptr;
}

void Forward::begin(std::span<const Row> rows, float* logits) {
  stage_ = stages_.size();  // nothing to do
  if (rows.empty()) return;
  const StandardFloatingPoint standard;
  reserve(rows);
  rows_ = rows;
  logits_ = logits;
  observer_ = nullptr;
  sampled_.clear();
  for (size_t b = 0; b < rows.size(); ++b)
    if (rows[b].wants_logits) sampled_.push_back(b);
  if (built_rows_ != rows.size() || built_sampled_ != sampled_.size()) build();
  stage_ = block_ = 0;
}

bool Forward::proceed(ThreadPool::Clock::time_point deadline) {
  const StandardFloatingPoint standard;
  while (stage_ < stages_.size()) {
    const Stage& stage = stages_[stage_];
    block_ = pool_.run_until(block_, stage.blocks, stage.run, deadline);
    if (block_ < stage.blocks) return false;
    if (observer_)
      for (Intermediate result : stage.results) {
        if (!result.data) result.data = logits_;
        (*observer_)(result);
      }
    ++stage_;
    block_ = 0;
    if (deadline != ThreadPool::kNever && ThreadPool::Clock::now() >= deadline) break;
  }
  return stage_ == stages_.size();
}

// The paper, top to bottom.  B rows, D = dim, H = hidden_dim.
void Forward::build() {
  const size_t B = rows_.size(), D = w_.config.dim, H = w_.config.hidden_dim;
  const size_t kv_dim = w_.config.kv_dim(), heads = w_.config.n_heads;
  auto named = [](const char* name, int layer, const float* data, size_t rows, size_t cols) {
    return Intermediate{name, layer, data, rows, cols, cols};
  };
  stages_.clear();
  built_rows_ = 0;  // until the whole list is there

  // x = embedding of the token
  add_stage(B, [this, D](size_t b, size_t) { w_.tok_emb.row(rows_[b].token, x_.data() + b * D); });

  for (size_t l = 0; l < w_.layers.size(); ++l) {
    const LayerWeights& layer = w_.layers[l];
    const int n = static_cast<int>(l);

    // attention: x += wo * attention(rope(wq * norm(x)), cache)
    add_stage(B, [this, &layer, l](size_t b, size_t) { residual_norm(b, layer.rms_att, l > 0, b); },
              {named("x", n, x_.data(), B, D), named("att_norm", n, normed_.f32.data(), B, D)});
    add_products(normed_, {{&layer.wq, q_.data()}, {&layer.wk, k_.data()}, {&layer.wv, v_.data()}}, B);
    add_stage(B, [=, this](size_t b, size_t worker) {
      const Row& row = rows_[b];
      const float *cos = rope_.cos(row.position), *sin = rope_.sin(row.position);
      kernels_.rope(q_.data() + b * D, cos, sin, layout_.head_size, heads);
      kernels_.rope(k_.data() + b * kv_dim, cos, sin, layout_.head_size, layout_.kv_heads);
      layout_.store(kernels_, row.blocks, l, row.position, k_.data() + b * kv_dim, v_.data() + b * kv_dim,
                    kv_scratch_[worker].data());
    }, {named("q", n, q_.data(), B, D), named("k", n, k_.data(), B, kv_dim), named("v", n, v_.data(), B, kv_dim)});
    add_stage((B + kAttentionRows - 1) / kAttentionRows * heads,
              [this, l, heads](size_t i, size_t worker) { attend(l, i / heads * kAttentionRows, i % heads, worker); },
              {named("att", n, att_.f32.data(), B, D)});
    if (w_.dtype != DType::float32) add_stage(B, [this](size_t b, size_t) { quantise(att_, b); });
    add_products(att_, {{&layer.wo, y_.data()}}, B, {named("att_out", n, y_.data(), B, D)});

    // feed-forward: x += w2 * (silu(w1 * norm(x)) * (w3 * norm(x)))
    add_stage(B, [this, &layer](size_t b, size_t) { residual_norm(b, layer.rms_ffn, true, b); },
              {named("x_mid", n, x_.data(), B, D), named("ffn_norm", n, normed_.f32.data(), B, D)});
    add_products(normed_, {{&layer.w1, gate_.f32.data()}, {&layer.w3, up_.data()}}, B);
    add_stage(B, [this, H](size_t b, size_t) {
      kernels_.swiglu(gate_.row(b), up_.data() + b * H, H);
      quantise(gate_, b);
    }, {named("gate", n, gate_.f32.data(), B, H)});
    add_products(gate_, {{&layer.w2, y_.data()}}, B, {named("ffn_out", n, y_.data(), B, D)});
  }

  // logits = wcls * norm(x), for the rows that want them
  const size_t S = sampled_.size();
  add_stage(S, [this](size_t s, size_t) { residual_norm(sampled_[s], w_.rms_final, true, s); },
            {named("final_norm", -1, normed_.f32.data(), S, D)});
  add_products(normed_, {{&w_.wcls(), nullptr}}, S,
               {named("logits", -1, nullptr, S, static_cast<size_t>(w_.config.vocab_size))});
  built_rows_ = B;
  built_sampled_ = S;
}

void Forward::add_stage(size_t blocks, std::function<void(size_t, size_t)> run, std::vector<Intermediate> results) {
  stages_.push_back({blocks, std::move(run), std::move(results)});
}

// One stage for several products of the same input, cut into blocks of output rows.
void Forward::add_products(const Activation& in, std::vector<Product> products, size_t rows,
                           std::vector<Intermediate> results) {
  struct Block {
    Product product;
    size_t first, last;
  };
  std::vector<Block> blocks;
  if (rows > 0)
    for (const Product& product : products) {
      const size_t all = units(*product.matrix), step = units_per_block(*product.matrix, rows);
      for (size_t first = 0; first < all; first += step)
        blocks.push_back({product, first, std::min(first + step, all)});
    }
  const size_t count = blocks.size();
  add_stage(count, [this, &in, rows, blocks = std::move(blocks)](size_t i, size_t) {
    multiply(in, blocks[i].product, blocks[i].first, blocks[i].last, rows);
  }, std::move(results));
}

void Forward::multiply(const Activation& in, const Product& product, size_t first, size_t last, size_t rows) const {
  const Matrix& m = *product.matrix;
  float* out = product.out ? product.out : logits_;
  const size_t r = first * kUnit;
  switch (m.dtype) {
    case DType::float32:
      return kernels_.matmul_f32(out + r, m.rows, m.f32 + r * m.cols, in.f32.data(), in.cols,
                                 std::min(last * kUnit, m.rows) - r, m.cols, rows);
    case DType::int4:
      return kernels_.matmul_q4(out + r, m.rows, m.q4.run(first, last), in.quantised(), rows);
    case DType::int8:
      if (m.q8.in_order())
        return kernels_.matmul_q8(out + r, m.rows, m.q8.run(first, last).panels, in.quantised(), rows);
      return multiply_phases(in, m, out, first, last, rows);
  }
}

// Panels whose rows are not neighbours: each result is carried to its place.
void Forward::multiply_phases(const Activation& in, const Matrix& m, float* out, size_t first, size_t last,
                              size_t rows) const {
  float lanes[kMaxRows * kPanelRows];  // (rows, 16)
  for (size_t p = first; p < last; ++p) {
    kernels_.matmul_q8(lanes, kPanelRows, m.q8.run(p, p + 1).panels, in.quantised(), rows);
    const uint32_t* row_of = m.q8.rows_of_panel(p);
    for (size_t b = 0; b < rows; ++b)
      for (size_t lane = 0; lane < kPanelRows; ++lane)
        if (row_of[lane] != Q8Matrix::kNoRow) out[b * m.rows + row_of[lane]] = lanes[kPanelRows * b + lane];
  }
}

// x[b] += y[b], if a branch left one; normed[out] = norm(x[b]), ready for a product.
void Forward::residual_norm(size_t b, const float* weight, bool has_branch, size_t out) {
  const size_t D = w_.config.dim;
  float* x = x_.data() + b * D;
  if (has_branch) kernels_.add(x, y_.data() + b * D, D);
  kernels_.rmsnorm(normed_.row(out), x, weight, D, w_.config.norm_eps);
  quantise(normed_, out);
}

void Forward::quantise(Activation& a, size_t b) const {
  if (w_.dtype == DType::float32) return;
  a.scales.data()[b] = kernels_.quantise_row(a.q8.data() + b * a.stride, a.sums.data() + b * (a.stride / kGroupColumns),
                                             a.f32.data() + b * a.cols, a.cols);
}

// One head of up to kAttentionRows rows from `first` on; rows that follow one another in a sequence go together.
void Forward::attend(size_t layer, size_t first, size_t head, size_t worker) {
  const size_t D = w_.config.dim, last = std::min(first + kAttentionRows, rows_.size());
  const size_t kv_head = head * layout_.kv_heads / w_.config.n_heads, offset = head * layout_.head_size;
  for (size_t b = first; b < last;) {
    const Row& row = rows_[b];
    size_t count = 1;
    while (b + count < last && rows_[b + count].blocks == row.blocks &&
           rows_[b + count].position == row.position + static_cast<int32_t>(count))
      ++count;
    const AttentionHead keys_and_values =
        layout_.head(row.blocks, layer, kv_head, static_cast<size_t>(row.position) + 1);
    kernels_.attention[static_cast<size_t>(layout_.type)](att_.row(b) + offset, D, q_.data() + b * D + offset, D,
                                                          keys_and_values, count, scores_[worker].data());
    b += count;
  }
}

void Forward::reserve(std::span<const Row> rows) {
  size_t positions = 0;
  for (const Row& row : rows) positions = std::max<size_t>(positions, row.position + 1);
  rope_.reserve(positions);
  positions = kAttentionRows * ((positions + kBlockPositions - 1) / kBlockPositions * kBlockPositions);
  for (AlignedBuffer<float>& scores : scores_)
    if (scores.size() < positions) scores = AlignedBuffer<float>(2 * positions, allocator_);
  if (capacity_ >= rows.size()) return;

  const size_t B = rows.size() == 1 ? 1 : std::min(kMaxRows, std::max(rows.size(), 2 * capacity_));
  const size_t D = w_.config.dim, H = w_.config.hidden_dim, kv_dim = w_.config.kv_dim();
  built_rows_ = 0;  // the stages point into the old buffers
  x_ = AlignedBuffer<float>(B * D, allocator_);
  y_ = AlignedBuffer<float>(B * D, allocator_);
  q_ = AlignedBuffer<float>(B * D, allocator_);
  k_ = AlignedBuffer<float>(B * kv_dim, allocator_);
  v_ = AlignedBuffer<float>(B * kv_dim, allocator_);
  up_ = AlignedBuffer<float>(B * H, allocator_);
  normed_.resize(B, D, allocator_);
  att_.resize(B, D, allocator_);
  gate_.resize(B, H, allocator_);
  capacity_ = B;
}

}  // namespace tinyzh
