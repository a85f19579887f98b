// Writing activations in the form that the next product reads.
#pragma once

#include "cuda/kernels/arithmetic.h"

namespace tinyzh::cuda {

// Where a fragment holds column k of row b (fragments.h), of rows of `stride` columns.
TINYZH_DEVICE size_t place_in_fragments(unsigned b, unsigned k, unsigned stride) {
  const size_t fragment = static_cast<size_t>(b / 8) * (stride / 16) + k / 16;
  return fragment * 4 * kWarp + (b % 8 * 4 + k % 8 / 2) * 4 + k % 16 / 8 * 2 + k % 2;
}

// One number of a row, in fp32 and in 16 bits.
TINYZH_DEVICE void write_number(const Activations& out, unsigned row, unsigned i, float x) {
  if (out.f32 && i < out.cols) out.f32[static_cast<size_t>(row) * out.cols + i] = x;
  if (out.half) out.half[place_in_fragments(row, i, out.stride)] = narrowed(out.precision, x);
}

// A whole row, by a whole block: value(i) is asked for once, by the thread that may overwrite where it reads.
template <class Value>
TINYZH_DEVICE void write_row(const Activations& out, unsigned row, const Value& value) {
  if (!is_quantised(out.precision)) {
    for (unsigned i = threadIdx.x; i < out.stride; i += kThreads) write_number(out, row, i, i < out.cols ? value(i) : 0.0f);
    return;
  }
  TINYZH_SHARED(uint32_t, largest, kWarps);
  float* const here = out.f32 + static_cast<size_t>(row) * out.cols;
  uint32_t most = 0;
  for (unsigned i = threadIdx.x; i < out.cols; i += kThreads) {
    const float x = value(i);
    here[i] = x;
    most = magnitude(x) > most ? magnitude(x) : most;
  }
  most = most_of_warp(most);
  if (lane_of_thread() == 0) largest[warp_of_thread()] = most;
  __syncthreads();
  for (unsigned warp = 0; warp < kWarps; ++warp) most = largest[warp] > most ? static_cast<uint32_t>(largest[warp]) : most;
  const Int8 to = int8_of(most);
  for (unsigned i = threadIdx.x; i < out.stride; i += kThreads) {  // each thread what it wrote itself; a warp 32 columns
    const int8_t q = i < out.cols ? rounded(here[i], to) : static_cast<int8_t>(0);
    out.q8[static_cast<size_t>(row) * out.stride + i] = q;
    const int sum = sum_of_warp(q);
    if (lane_of_thread() == 0) out.sums[(static_cast<size_t>(row) * out.stride + i) / kWarp] = static_cast<float>(sum);
  }
  if (threadIdx.x == 0) out.scales[row] = to.scale;
}

}  // namespace tinyzh::cuda
