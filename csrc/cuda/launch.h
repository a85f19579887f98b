// The kernels of kernels.h, called from the host: each function puts one launch into a stream.
// launch.cu is compiled by nvcc for a GPU and, included into an ordinary file, for the emulated one.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace tinyzh::cuda {

using Stream = void*;  // a cudaStream_t; nothing to the emulation, where a launch is over when it returns

// Where one layer's keys and values lie inside a block of the cache; see model/kv_cache.h.
struct CacheLayout {
  size_t first;                   // of the layer's first head, in bytes
  size_t stride;                  // from one head to the next
  size_t value_offset;            // from a head's keys to its values
  unsigned head_size, value_row;  // value_row: head_size padded to eight
  unsigned heads, kv_heads;
  KvType type;  // float32 or float16
};

// The rows of a pass: on the device.
struct Rows {
  const int32_t* tokens;                // (B)
  const int32_t* positions;             // (B)
  std::byte* const* const* tables;      // (B): blocks of the row's sequence
  unsigned count;                       // B
};

// x (B, dim) = embedding (vocab, dim) at the rows' tokens.
void embed_rows(Stream stream, float* x, const float* embedding, Rows rows, unsigned dim);
// x += y unless y is null; out = RMSNorm(x) * weight.  All (B, dim) but weight (dim).
void residual_norm(Stream stream, float* out, float* x, const float* y, const float* weight, unsigned dim, float eps,
                   unsigned rows);
// out[b * out_stride + r] = dot(w[r], x[b]): w (rows, cols), x (batch, x_stride).
void matmul_f32(Stream stream, float* out, size_t out_stride, const float* w, const float* x, size_t x_stride, unsigned rows,
                unsigned cols, unsigned batch);
// x (B, cols) as int8 with one scale a row: q (B, stride), sums (B, stride / 32), scales (B); stride is cols rounded up to
// a multiple of 32.
void quantise_rows(Stream stream, int8_t* q, float* sums, float* scales, const float* x, unsigned cols, unsigned stride,
                   unsigned rows);
// Products of quantised matrices, as in kernels/kernels.h; everything that w and x point to is on the device.
// row_of (panels, 16): which rows of out those of w are; null: in order.
void matmul_q8(Stream stream, float* out, size_t out_stride, const Q8Panels& w, const uint32_t* row_of, const Q8Rows& x,
               unsigned batch);
void matmul_q4(Stream stream, float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, unsigned batch);
// Turns q (B, heads * S) and k (B, kv_heads * S) by the rows' positions, in place, and stores k and v into the cache.
// cos, sin (positions, S / 2).
void rope_store(Stream stream, float* q, float* k, const float* v, Rows rows, const float* cos, const float* sin,
                CacheLayout layout);
// out (B, heads * S): each row looks at the positions up to its own.  scores: scratch of score_stride floats, at least
// the positions, for each row and head.
void attend(Stream stream, float* out, const float* q, Rows rows, float* scores, size_t score_stride, CacheLayout layout);
// gate (n) = gate * sigmoid(gate) * up.
void swiglu(Stream stream, float* gate, const float* up, size_t n);

}  // namespace tinyzh::cuda
