// Matrix products with the bits of the CPU.  A dot product of fp32 has eight lanes there: here a quarter of a warp has
// it, one thread a lane.  Sums of integers are exact, so that any number of threads may share one.
#pragma once

#include "cuda/kernels/arithmetic.h"

namespace tinyzh::cuda {

inline constexpr unsigned kPanel = 16;    // rows side by side: kPanelRows
inline constexpr unsigned kColumns = 8;   // rows of activations at a time
inline constexpr uint32_t kNoRow = 0xffffffffu;  // padding of a panel

// That of the matrix which the panel is a part of.
TINYZH_DEVICE Places::Place place_of(const Places& places, unsigned panel) {
  Places::Place place = places.of[0];
  if (places.count > 1 && panel >= places.of[1].first) place = places.of[1];
  if (places.count > 2 && panel >= places.of[2].first) place = places.of[2];
  return place;
}

// out[b][r] = dot(w[r], x[b]) for kColumns rows of x (B, cols): a block a panel, eight threads a row of w (rows, cols).
TINYZH_KERNEL matmul_f32_kernel(Places places, const float* w, const float* x, unsigned cols, unsigned batch) {
  const Places::Place place = place_of(places, blockIdx.x);
  const unsigned in_panel = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const unsigned row = (blockIdx.x - place.first) * kPanel + in_panel;
  const unsigned first = blockIdx.y * kColumns, here = batch - first < kColumns ? batch - first : kColumns;
  float sums[kColumns] = {};
  if (row < place.rows) {
    const float* const weights = w + (static_cast<size_t>(blockIdx.x) * kPanel + in_panel) * cols;
    TINYZH_UNROLL(4)
    for (unsigned k = lane; k < cols; k += kLanes) {
      const float weight = weights[k];
      for (unsigned c = 0; c < kColumns; ++c)
        if (c < here) sums[c] = fmaf(weight, x[static_cast<size_t>(first + c) * cols + k], sums[c]);
    }
  }
  for (unsigned c = 0; c < kColumns; ++c) {
    if (c >= here) continue;  // all of the block
    const float sum = sum_of_lanes(sums[c]);
    if (row < place.rows && lane == 0) place.out[static_cast<size_t>(first + c) * place.rows + row] = sum;
  }
}

TINYZH_DEVICE int four_of(const int8_t* from) {  // aligned
  int four;
  memcpy(&four, from, sizeof four);
  return four;
}

inline constexpr unsigned kPanelsOfBlock = kWarps;

// The same of int8: a warp a panel, where thread t has row t % 16 and every second quad.
TINYZH_KERNEL matmul_q8_kernel(Places places, const Q8Part* parts, unsigned part_count, Activations x, unsigned batch) {
  const unsigned panel = blockIdx.x * kPanelsOfBlock + warp_of_thread(), lane = lane_of_thread();
  const unsigned row = lane % kPanel, half = lane / kPanel;
  const bool mine = panel < places.panels;
  unsigned which = 0;
  while (which + 1 < part_count && panel >= parts[which + 1].first) ++which;
  const Q8Part& part = parts[which];
  const Q8Panels& w = part.panels;
  const unsigned first = blockIdx.y * kColumns, here = batch - first < kColumns ? batch - first : kColumns;
  const size_t in_part = mine ? panel - part.first : 0;
  const int8_t* const values = w.values + (in_part * w.quads * kPanel + row) * 4;
  const float* const scales = w.scales + in_part * w.segment_count * kPanel + row;
  float acc[kColumns] = {};
  size_t done = 0;  // quads of the panel so far
  for (size_t s = 0; s < w.segment_count; ++s) {
    const Segment segment = w.segments[s];
    int sums[kColumns] = {};
    for (uint32_t quad = segment.first_quad + half; mine && quad < segment.end_quad; quad += kWarp / kPanel) {
      const int weights = four_of(values + (done + quad - segment.first_quad) * kPanel * 4);
      for (unsigned c = 0; c < kColumns; ++c)
        if (c < here) sums[c] = __dp4a(weights, four_of(x.q8 + static_cast<size_t>(first + c) * x.stride + 4 * quad), sums[c]);
    }
    done += segment.end_quad - segment.first_quad;
    for (unsigned c = 0; c < kColumns; ++c) {
      if (c >= here) continue;
      const int sum = sums[c] + __shfl_xor_sync(kAll, sums[c], kPanel);
      if (mine) acc[c] = fmaf(scales[s * kPanel], static_cast<float>(sum), acc[c]);
    }
  }
  if (!mine || half != 0) return;
  const Places::Place place = place_of(places, panel);
  const unsigned slot = (panel - part.first) * kPanel + row;
  const uint32_t to = part.row_of ? part.row_of[slot] : slot < place.rows ? slot : kNoRow;
  for (unsigned c = 0; c < here && to != kNoRow; ++c)
    place.out[static_cast<size_t>(first + c) * place.rows + to] = acc[c] * x.scales[first + c];
}

// The same of int4: thread t has row t % 16, and of each group the quads 2i (t < 16) or 2i + 1.
TINYZH_KERNEL matmul_q4_kernel(Places places, const Q4Group* w, Activations x, unsigned batch) {
  const unsigned panel = blockIdx.x * kPanelsOfBlock + warp_of_thread(), lane = lane_of_thread();
  const unsigned row = lane % kPanel, half = lane / kPanel, group_count = x.stride / kWarp;
  const bool mine = panel < places.panels;
  const unsigned first = blockIdx.y * kColumns, here = batch - first < kColumns ? batch - first : kColumns;
  const Q4Group* const groups = w + (mine ? static_cast<size_t>(panel) * group_count : 0);
  float acc[kColumns] = {};
  for (unsigned g = 0; g < group_count; ++g) {
    int sums[kColumns] = {};
    for (unsigned i = 0; mine && i < 4; ++i) {
      int pairs;
      memcpy(&pairs, groups[g].values[i][row], sizeof pairs);
      const int weights = (half ? pairs >> 4 : pairs) & 0x0f0f0f0f;
      for (unsigned c = 0; c < kColumns; ++c)
        if (c < here) {
          const int8_t* const xs = x.q8 + static_cast<size_t>(first + c) * x.stride + g * kWarp + 8 * i + 4 * half;
          sums[c] = __dp4a(weights, four_of(xs), sums[c]);
        }
    }
    const float shift = static_cast<float>(groups[g].zeros[row]) * 0.0625f, scale = float_of_half(groups[g].scales[row]);
    for (unsigned c = 0; c < kColumns; ++c) {
      if (c >= here) continue;
      const int sum = sums[c] + __shfl_xor_sync(kAll, sums[c], kPanel);
      if (!mine) continue;
      const float whole = static_cast<float>(sum) - shift * x.sums[static_cast<size_t>(first + c) * group_count + g];  // exact
      acc[c] = fmaf(scale, whole, acc[c]);
    }
  }
  if (!mine || half != 0) return;
  const Places::Place place = place_of(places, panel);
  const unsigned to = (panel - place.first) * kPanel + row;
  for (unsigned c = 0; c < here && to < place.rows; ++c)
    place.out[static_cast<size_t>(first + c) * place.rows + to] = acc[c] * x.scales[first + c];
}

}  // namespace tinyzh::cuda
