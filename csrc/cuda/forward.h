// The forward pass on a GPU: the stages of model/forward.h as launches.  With weights of fp32, int8 and int4 they have
// the same bits.
#pragma once

#include <span>
#include <vector>

#include "base/aligned.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "cuda/weights.h"
#include "model/backend.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace tinyzh::cuda {

class Forward {
 public:
  // Copies the weights to the device.  Throws Error(Code::checkpoint): a weight is beyond the precision.
  Forward(const tinyzh::Weights& weights, Precision precision, KvType kv_type, const Queue& queue);

  // Working memory for passes of up to this many rows; what it had before is let go of.
  void reserve(size_t rows);

  // Puts a pass into the queue; its inputs are there.  sampled: rows whose logits are wanted, logits() (sampled,
  // vocab_size) in their order; null: all, in order.  An observer sees every intermediate, and is waited for.
  struct Pass {
    Rows rows;
    const Slot* slots;  // of rows whose tokens are there
    const int32_t* sampled;
    size_t sampled_count;
  };
  void put(const Pass& pass, const Observer& observer = {});
  float* logits() { return logits_.data(); }

 private:
  struct Layer {
    AlignedBuffer<std::byte> rms_att, rms_ffn;  // (dim)
    Product wqkv, wo, w13, w2;
  };
  struct Activation {  // owns what Activations point to
    AlignedBuffer<float> f32, sums, scales;
    AlignedBuffer<int8_t> q8;
    AlignedBuffer<uint16_t> half;
    size_t cols = 0;
  };

  template <class T>
  AlignedBuffer<T> room(size_t count) const;
  Activation activation(size_t rows, size_t cols) const;
  Activations view(Activation& a, bool looked_at) const;
  CacheLayout cache_of_layer(size_t layer) const;

  const Config config_;
  const Precision precision_;
  const KvLayout layout_;
  const Queue& queue_;

  AlignedBuffer<std::byte> embedding_;  // (vocab_size, dim)
  std::vector<Layer> layers_;
  AlignedBuffer<std::byte> rms_final_;  // (dim)
  Product wcls_;                        // none where the embedding serves: tied, in fp32
  AlignedBuffer<std::byte> cos_, sin_;  // (seq_len, head_size / 2)

  AlignedBuffer<float> x_, y_, q_;   // (B, dim)
  AlignedBuffer<float> k_, v_;       // (B, kv_dim)
  AlignedBuffer<float> gate_, up_;   // (B, hidden_dim); none with 16 bits
  AlignedBuffer<float> scores_;      // (B, n_heads, seq_len), where attention needs them
  AlignedBuffer<uint32_t> arrived_;  // (B)
  AlignedBuffer<float> logits_;      // (B, vocab_size)
  Activation normed_, att_, gated_;
};

}  // namespace tinyzh::cuda
