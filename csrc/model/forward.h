// The forward pass on the processor: token ids in, logits out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/memory.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "model/backend.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/weights.h"

namespace tinyzh {

class Forward final : public Backend {
 public:
  static constexpr size_t kMaxRows = 256;

  Forward(const Weights& weights, KvType kv_type, const Kernels& kernels, ThreadPool& pool,
          const Allocator& allocator = Allocator::system());
  Forward(const Forward&) = delete;  // the stages point into it
  Forward& operator=(const Forward&) = delete;

  size_t max_rows() const override { return kMaxRows; }
  // In pieces of at most a quarter of a millisecond each.
  void run(std::span<const Row> rows, float* logits, const Observer& observer = {}) override;
  void begin(std::span<const Row> rows, float* logits) override;
  bool proceed(ThreadPool::Clock::time_point deadline) override;
  void abandon() noexcept override { stage_ = stages_.size(); }

  const Allocator& block_memory() const override { return allocator_; }
  size_t free_memory() const override { return available_memory(); }
  void copy_block(std::byte* to, const std::byte* from, size_t bytes) const override;

 private:
  // What a matrix product reads: rows of activations, as fp32 or as int8 with one scale a row.
  struct Activation {
    AlignedBuffer<float> f32;  // (rows, cols)
    AlignedBuffer<int8_t> q8;  // (rows, stride)
    AlignedBuffer<float> sums;  // (rows, stride / 32)
    AlignedBuffer<float> scales;  // (rows)
    size_t cols = 0, stride = 0;
    float* row(size_t b) { return f32.data() + b * cols; }
    Q8Rows quantised() const { return {q8.data(), sums.data(), scales.data(), stride}; }
    void resize(size_t rows, size_t width, const Allocator& allocator);
  };
  struct Product {  // out[b] = matrix * in[b]
    const Matrix* matrix;
    float* out;  // (rows, matrix->rows); null: the caller's logits
  };
  // One step of the pass, cut into blocks that may run in any order, on any thread.
  struct Stage {
    size_t blocks;
    std::function<void(size_t block, size_t worker)> run;
    std::vector<Intermediate> results;
  };

  void build();
  void add_stage(size_t blocks, std::function<void(size_t, size_t)> run, std::vector<Intermediate> results = {});
  void add_products(const Activation& in, std::vector<Product> products, size_t rows,
                    std::vector<Intermediate> results = {});
  void multiply(const Activation& in, const Product& product, size_t first, size_t last, size_t rows) const;
  void multiply_phases(const Activation& in, const Matrix& matrix, float* out, size_t first, size_t last,
                       size_t rows) const;
  void residual_norm(size_t b, const float* weight, bool has_branch, size_t out);
  void quantise(Activation& a, size_t b) const;
  void attend(size_t layer, size_t first, size_t head, size_t worker);
  void reserve(std::span<const Row> rows);

  const Weights& w_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  KvLayout layout_;
  const Allocator allocator_;
  RopeTable rope_;
  size_t capacity_ = 0;          // rows the buffers hold
  std::span<const Row> rows_;    // of the current pass
  std::vector<size_t> sampled_;  // those that want logits
  float* logits_ = nullptr;      // (sampled, vocab_size)
  const Observer* observer_ = nullptr;
  std::vector<Stage> stages_;    // built for this many rows and this many sampled:
  size_t built_rows_ = 0, built_sampled_ = 0;
  size_t stage_ = 0, block_ = 0;  // where the pass is

  AlignedBuffer<float> x_;      // (rows, dim) residual stream
  AlignedBuffer<float> y_;      // (rows, dim) what the last branch adds to it
  Activation normed_;           // (rows, dim)
  AlignedBuffer<float> q_;      // (rows, dim)
  AlignedBuffer<float> k_, v_;  // (rows, kv_dim)
  Activation att_;              // (rows, dim)
  Activation gate_;             // (rows, hidden_dim)
  AlignedBuffer<float> up_;     // (rows, hidden_dim)
  std::vector<AlignedBuffer<float>> scores_;  // per worker: (kAttentionRows, positions)
  std::vector<AlignedBuffer<float>> kv_scratch_;  // per worker: what KvLayout::store needs
};

}  // namespace tinyzh
