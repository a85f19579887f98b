// The weights of a model in the form that the kernels read, under the names of the file.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "io/checkpoint.h"
#include "kernels/kernels.h"
#include "quant/q4.h"
#include "quant/q8.h"

namespace tinyzh {

enum class DType { float32, int8, int4 };
std::string_view dtype_name(DType dtype);
Packing packing_of(DType dtype);                // how a tz file holds it
DType own_dtype(const Checkpoint& checkpoint);  // the precision of the file

// A matrix (rows, cols) of one of the types.
struct Matrix {
  size_t rows = 0, cols = 0;
  DType dtype = DType::float32;
  const float* f32 = nullptr;  // (rows, cols)
  Q8Matrix q8;
  Q4Matrix q4;

  size_t packed_bytes() const { return q8.bytes() + q4.bytes(); }
  size_t owned_bytes() const { return q8.owned_bytes() + q4.owned_bytes(); }  // beyond the file itself
  size_t bytes() const { return dtype == DType::float32 ? rows * cols * sizeof(float) : packed_bytes(); }
  void row(size_t index, float* out) const;  // out (cols): one row as fp32
};

struct LayerWeights {
  const float* rms_att = nullptr;  // (dim)
  Matrix wq;                       // (dim, dim)
  Matrix wk, wv;                   // (kv_dim, dim)
  Matrix wo;                       // (dim, dim)
  const float* rms_ffn = nullptr;  // (dim)
  Matrix w1, w3;                   // (hidden_dim, dim)
  Matrix w2;                       // (dim, hidden_dim)
};

class Weights {
 public:
  // Views into `checkpoint`'s bytes wherever they can be used as they are (fp32 in an fp32 file, all of a tz
  // file); the bytes must stay, unless the weights are independent of them.  Quantising and packing run on the pool; now and then, on the caller's thread,
  // progress(done, total) is told the matrices done, and stops the work by throwing.
  Weights(const Checkpoint& checkpoint, DType dtype, const Kernels& kernels, ThreadPool& pool,
          const std::function<void(size_t, size_t)>& progress = {}, const Allocator& allocator = Allocator::system());

  Config config;
  DType dtype;
  bool independent;   // arrays that were quantised: nothing points into them any more
  size_t group_size;  // of int8 matrices; 0: a scale for each row
  Matrix tok_emb;     // (vocab_size, dim)
  std::vector<LayerWeights> layers;
  const float* rms_final = nullptr;  // (dim)
  const Matrix& wcls() const { return config.tied ? tok_emb : wcls_; }  // (vocab_size, dim)

  // By the name of the file: a matrix, or the vector (dim) that it is if it is one, else null.
  const Matrix& matrix(TensorId id, size_t layer) const;
  const float* vector(TensorId id, size_t layer) const;

  // Bytes of weights that one token reads: every matrix but the embedding table, of which it reads a row.
  size_t bytes_per_token() const;
  size_t owned_bytes() const;  // memory beyond the file itself

 private:
  Matrix wcls_;
  std::vector<float> vectors_;
  std::vector<AlignedBuffer<float>> dequantised_;
};

}  // namespace tinyzh
