// What is done to rows one by one: embedding, norm, activation.  A block a row.
#pragma once

#include "cuda/kernels/activations.h"

namespace tinyzh::cuda {

// x[b] = embedding[tokens[b]]: x (B, D), embedding (V, D).
TINYZH_KERNEL embed_rows_kernel(float* x, const void* embedding, Precision precision, Rows rows, const Slot* slots, unsigned dim) {
  const size_t row = blockIdx.x;
  const int32_t token = rows.tokens[row];
  const size_t from = static_cast<size_t>(token < 0 ? slots[~token].last : token) * dim;
  for (unsigned i = threadIdx.x; i < dim; i += kThreads) {
    const auto half = [&] { return static_cast<const uint16_t*>(embedding)[from + i]; };
    x[row * dim + i] = precision == Precision::float16    ? widened(Float16(), half())
                       : precision == Precision::bfloat16 ? widened(Bfloat16(), half())
                                                          : static_cast<const float*>(embedding)[from + i];
  }
}

// x[from[b]] += y[from[b]] unless y is null, then out[b] = RMSNorm(x[from[b]]) * weight: x, y (B, D), weight (D).
// kOrdered: the squares are added as on the CPU, by eight threads; else by all.
template <bool kOrdered>
TINYZH_KERNEL residual_norm_kernel(Activations out, float* x, const float* y, const float* weight, const int32_t* from, float eps) {
  TINYZH_SHARED(float, sums, kWarps);
  const unsigned row = blockIdx.x, dim = out.cols;
  const size_t begin = static_cast<size_t>(from ? static_cast<unsigned>(from[row]) : row) * dim;
  float* const here = x + begin;
  if (y)
    for (unsigned i = threadIdx.x; i < dim; i += kThreads) here[i] = here[i] + y[begin + i];
  if constexpr (kOrdered) __syncthreads();  // others read what was added
  constexpr unsigned kAdding = kOrdered ? kLanes : kThreads;
  float squares = 0;
  if (threadIdx.x < kAdding)
    for (unsigned i = threadIdx.x; i < dim; i += kAdding) squares = fmaf(here[i], here[i], squares);
  squares = sum_of_lanes(squares, kOrdered ? kLanes : kWarp);
  if (lane_of_thread() == 0) sums[warp_of_thread()] = squares;
  __syncthreads();
  const float sum = kOrdered ? sums[0] : (sums[0] + sums[1]) + (sums[2] + sums[3]);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(dim) + eps);
  write_row(out, row, [&](unsigned i) { return weight[i] * (here[i] * scale); });
}

// out = gate * sigmoid(gate) * up, both (B, H).
TINYZH_KERNEL swiglu_kernel(Activations out, const float* gate, const float* up) {
  const size_t begin = static_cast<size_t>(blockIdx.x) * out.cols;
  write_row(out, blockIdx.x, [&](unsigned i) { return gated(gate[begin + i], up[begin + i]); });
}

}  // namespace tinyzh::cuda
