// The forward pass on a GPU: the stages of model/forward.h as launches, with the same bits.
#pragma once

#include <span>
#include <vector>

#include "base/aligned.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "model/backend.h"
#include "model/kv_cache.h"
#include "model/rope.h"
#include "model/weights.h"

namespace tinyzh::cuda {

class Forward final : public Backend {
 public:
  static constexpr size_t kMaxRows = 1024;

  // Copies the weights to the device.  Throws Error(Code::backend): no device, or a cache of int8.
  Forward(const tinyzh::Weights& weights, KvType kv_type);

  size_t max_rows() const override { return kMaxRows; }
  void begin(std::span<const Row> rows, float* logits) override;
  // A pass is computed in one go: the GPU works while nobody else waits for it.
  bool proceed(ThreadPool::Clock::time_point deadline, const Observer& observer = {}) override;

  const Allocator& block_memory() const override { return memory_; }
  size_t free_memory() const override { return device_facts().free_bytes; }
  void copy_block(std::byte* to, const std::byte* from, size_t bytes) const override;

 private:
  // A matrix on the device, in the layout that it has on the host.
  struct DeviceMatrix {
    size_t rows = 0, cols = 0;
    DType dtype = DType::float32;
    AlignedBuffer<std::byte> bytes;
    struct Run {  // panels of one phase
      Q8Panels panels;
      const uint32_t* row_of;  // null: in order
    };
    std::vector<Run> q8;
    Q4Panels q4 = {};
  };
  struct DeviceLayer {
    AlignedBuffer<float> rms_att, rms_ffn;
    DeviceMatrix wq, wk, wv, wo, w1, w2, w3;
  };
  struct Activation {  // (B, cols), as fp32 and as int8
    AlignedBuffer<float> f32, sums, scales;
    AlignedBuffer<int8_t> q8;
    unsigned cols = 0, stride = 0;
  };

  template <class T>
  AlignedBuffer<T> room(size_t count) const { return AlignedBuffer<T>(count, memory_, Fill::nothing); }
  template <class T>
  AlignedBuffer<T> uploaded(std::span<const T> values) const;
  DeviceMatrix uploaded(const Matrix& matrix);
  Activation activation(size_t rows, size_t cols) const;
  void reserve(std::span<const Row> rows);
  void quantise(Activation& a, size_t rows) const;
  void product(float* out, const DeviceMatrix& m, const Activation& in, size_t rows) const;
  void norm(Activation& out, const AlignedBuffer<float>& weight, bool has_branch, size_t rows);

  const Config config_;
  const DType dtype_;
  const KvLayout layout_;
  const Allocator memory_;
  const Queue queue_;
  RopeTable rope_;
  size_t rope_rows_ = 0;  // of the tables on the device
  size_t capacity_ = 0, positions_ = 0;

  AlignedBuffer<float> embedding_;  // (vocab_size, dim)
  DeviceMatrix wcls_;               // none where the embedding serves: tied, in fp32
  std::vector<DeviceLayer> layers_;
  AlignedBuffer<float> rms_final_;
  std::vector<AlignedBuffer<std::byte>> kept_;  // segments and maps of int8 matrices

  AlignedBuffer<float> cos_, sin_, x_, y_, q_, k_, v_, up_, scores_, logits_;
  Activation normed_, att_, gate_;
  AlignedBuffer<int32_t> tokens_, row_positions_;
  AlignedBuffer<std::byte* const*> tables_;  // (B), into blocks_
  AlignedBuffer<std::byte*> blocks_;         // the tables of all sequences, one after another

  std::span<const Row> rows_;
  float* wanted_ = nullptr;  // the caller's logits
  bool begun_ = false;
};

}  // namespace tinyzh::cuda
