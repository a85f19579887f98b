// The arithmetic of the model for a GPU, in fp32, with the bits of the CPU's kernels: every sum is made in the
// order that kernels/kernels.h lays down.  A dot product there has eight lanes: here a quarter of a warp has it,
// one thread a lane.  So a story does not depend on where it is told.
//
// Compiled without contraction (-fmad=false): multiply-adds are fused where it is written.
// Letters as everywhere: B rows, D dim, H hidden_dim.
#pragma once

#include <cstring>

#include "cuda/device.h"
#include "cuda/launch.h"

namespace tinyzh::cuda {

inline constexpr unsigned kThreads = 128;  // of a block
inline constexpr unsigned kLanes = 8;      // of a sum
inline constexpr unsigned kAll = 0xffffffffu;
inline constexpr unsigned kPositions = 16;  // of a block of the KV cache: kBlockPositions

// ---- pieces ------------------------------------------------------------------------------------

TINYZH_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
TINYZH_DEVICE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// ((0+1)+(2+3)) + ((4+5)+(6+7)) of eight neighbouring threads, in each of them; all of a warp take part.
TINYZH_DEVICE float sum_of_lanes(float lane) {
  for (unsigned step = 1; step < kLanes; step *= 2) lane = lane + __shfl_xor_sync(kAll, lane, step);
  return lane;
}

// e^x, as kernels/generic.h has it.
TINYZH_DEVICE float exp_of(float x) {
  constexpr float kLowest = -87.3f, kHighest = 88.3f, kMagic = 12582912.0f;
  const float above = kLowest > x ? kLowest : x;           // a NaN passes
  const float inside = kHighest < above ? kHighest : above;
  const float t = fmaf(inside, 1.44269504088896341f, kMagic);
  const float n = t - kMagic;
  float r = fmaf(n, -0.693359375f, inside);
  r = fmaf(n, 2.12194440e-4f, r);
  float p = 0.0013814539416f;
  p = fmaf(p, r, 0.0083687454462f);
  p = fmaf(p, r, 0.041668388993f);
  p = fmaf(p, r, 0.16666521132f);
  p = fmaf(p, r, 0.49999994040f);
  p = fmaf(p, r, 1.0f);
  p = fmaf(p, r, 1.0f);
  return x < kLowest ? 0.0f : p * float_of((bits_of(t) + 127u) << 23);
}

TINYZH_DEVICE unsigned thread_of_grid() { return blockIdx.x * kThreads + threadIdx.x; }

// ---- kernels: each with the grid that launch.cu gives it ---------------------------------------

// x[b] = embedding[tokens[b]]: x (B, D), embedding (V, D); a block a row.
TINYZH_KERNEL embed_rows_kernel(float* x, const float* embedding, Rows rows, unsigned dim) {
  const size_t row = blockIdx.x, from = static_cast<size_t>(rows.tokens[row]);
  for (unsigned i = threadIdx.x; i < dim; i += kThreads) x[row * dim + i] = embedding[from * dim + i];
}

// x[b] += y[b] unless y is null, then out[b] = RMSNorm(x[b]) * weight: (B, D), weight (D); a warp a row.
TINYZH_KERNEL residual_norm_kernel(float* out, float* x, const float* y, const float* weight, unsigned dim, float eps,
                            unsigned rows) {
  const unsigned row = thread_of_grid() / kWarp, lane = threadIdx.x % kWarp;
  const bool mine = row < rows;  // the others keep the warp whole
  float* const here = x + static_cast<size_t>(row) * dim;
  if (mine && y)
    for (unsigned i = lane; i < dim; i += kWarp) here[i] = here[i] + y[static_cast<size_t>(row) * dim + i];
  __syncwarp();
  float squares = 0;
  if (mine && lane < kLanes)
    for (unsigned i = lane; i < dim; i += kLanes) squares = fmaf(here[i], here[i], squares);
  const float sum = __shfl_sync(kAll, sum_of_lanes(squares), 0);
  const float scale = 1.0f / sqrtf(sum / static_cast<float>(dim) + eps);
  if (mine)
    for (unsigned i = lane; i < dim; i += kWarp) out[static_cast<size_t>(row) * dim + i] = weight[i] * (here[i] * scale);
}

// out[b * out_stride + r] = dot(w[r], x[b]) for `batch` rows from the first of this block on: w (rows, cols),
// x (B, x_stride).  A warp has four rows of w, each with eight threads, and kColumns rows of x at a time.
inline constexpr unsigned kRowsOfWarp = kWarp / kLanes, kRowsOfBlock = kThreads / kLanes, kColumns = 8;

TINYZH_KERNEL matmul_f32_kernel(float* out, size_t out_stride, const float* w, const float* x, size_t x_stride, unsigned rows,
                         unsigned cols, unsigned batch) {
  const unsigned row = blockIdx.x * kRowsOfBlock + threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const unsigned first = blockIdx.y * kColumns, here = batch - first < kColumns ? batch - first : kColumns;
  float sums[kColumns] = {};
  if (row < rows) {
    const float* const weights = w + static_cast<size_t>(row) * cols;
    for (unsigned k = lane; k < cols; k += kLanes) {
      const float weight = weights[k];
      for (unsigned c = 0; c < kColumns; ++c)
        if (c < here) sums[c] = fmaf(weight, x[(first + c) * x_stride + k], sums[c]);
    }
  }
  for (unsigned c = 0; c < kColumns; ++c) {
    const float sum = sum_of_lanes(sums[c]);
    if (row < rows && lane == 0 && c < here) out[(first + c) * out_stride + row] = sum;
  }
}

// ---- int8 and int4: sums of integers are exact, so that any number of threads may share one ------------

TINYZH_DEVICE float float_of_half(uint16_t half) {
  const uint32_t exponent = half >> 10 & 31u, fraction = half & 0x3ffu, sign = static_cast<uint32_t>(half >> 15) << 31;
  if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction ? 0x400000u : 0u) | fraction << 13);
  if (exponent > 0) return float_of(sign | (exponent + 112u) << 23 | fraction << 13);
  const float small = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -small : small;
}

TINYZH_DEVICE uint16_t half_of_float(float x) {  // half to even, as base/half.h
  const uint32_t bits = bits_of(x), magnitude = bits & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u)
    return static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

// What the cache keeps of a number: fp32 or fp16.
TINYZH_DEVICE float widened(float x) { return x; }
TINYZH_DEVICE float widened(uint16_t x) { return float_of_half(x); }
TINYZH_DEVICE void keep(float* place, float x) { *place = x; }
TINYZH_DEVICE void keep(uint16_t* place, float x) { *place = half_of_float(x); }

TINYZH_DEVICE int sum_of_warp(int x) {
  for (unsigned step = kWarp / 2; step > 0; step /= 2) x = x + __shfl_xor_sync(kAll, x, step);
  return x;
}

// q (B, stride), sums (B, stride / 32), scales (B) of x (B, cols), as quantise_row of kernels/kernels.h; a warp a row.
TINYZH_KERNEL quantise_rows_kernel(int8_t* q, float* sums, float* scales, const float* x, unsigned cols, unsigned stride,
                                   unsigned rows) {
  const unsigned row = thread_of_grid() / kWarp, lane = threadIdx.x % kWarp;
  const bool mine = row < rows;
  const float* const here = x + static_cast<size_t>(row) * cols;
  uint32_t most = 0;  // as bits, so that a NaN is the largest of all
  if (mine)
    for (unsigned i = lane; i < cols; i += kWarp) {
      const uint32_t bits = bits_of(here[i]) & 0x7fffffffu;
      most = bits > most ? bits : most;
    }
  for (unsigned step = kWarp / 2; step > 0; step /= 2) {
    const uint32_t other = __shfl_xor_sync(kAll, most, step);
    most = other > most ? other : most;
  }
  constexpr float kSmallest = 1e-35f, kMagic = 12582912.0f;
  const float largest = float_of(most);
  const bool zero = largest < kSmallest;
  const float inverse = zero ? 0.0f : 127.0f / largest;
  for (unsigned first = 0; first < stride; first += kWarp) {
    const unsigned i = first + lane;
    int8_t rounded = 0;
    if (mine && i < cols) rounded = static_cast<int8_t>(bits_of(here[i] * inverse + kMagic));
    if (mine) q[static_cast<size_t>(row) * stride + i] = rounded;
    const int sum = sum_of_warp(rounded);
    if (mine && lane == 0) sums[(static_cast<size_t>(row) * stride + first) / kWarp] = static_cast<float>(sum);
  }
  if (mine && lane == 0) scales[row] = zero ? 0.0f : largest / 127.0f;
}

inline constexpr unsigned kPanel = 16;           // rows side by side: kPanelRows
inline constexpr unsigned kPanelsOfBlock = kThreads / kWarp;
inline constexpr uint32_t kNoRow = 0xffffffffu;  // padding of a panel

TINYZH_DEVICE int four_of(const int8_t* from) {  // aligned
  int four;
  memcpy(&four, from, sizeof four);
  return four;
}

// out[b * out_stride + r] for the rows of w: a warp a panel, where thread t has row t % 16 and every second quad.
// row_of (panels, 16): which rows they are, where they are not in order; else null.
TINYZH_KERNEL matmul_q8_kernel(float* out, size_t out_stride, Q8Panels w, const uint32_t* row_of, Q8Rows x, unsigned batch) {
  const unsigned panel = blockIdx.x * kPanelsOfBlock + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const unsigned row = lane % kPanel, half = lane / kPanel;
  const bool mine = panel * kPanel < w.rows;
  const unsigned first = blockIdx.y * kColumns, here = batch - first < kColumns ? batch - first : kColumns;
  const int8_t* const values = w.values + (mine ? static_cast<size_t>(panel) * w.quads * kPanel + row : 0) * 4;
  const float* const scales = w.scales + (mine ? static_cast<size_t>(panel) * w.segment_count * kPanel + row : 0);
  float acc[kColumns] = {};
  size_t done = 0;  // quads of the panel so far
  for (size_t s = 0; s < w.segment_count; ++s) {
    const Segment segment = w.segments[s];
    int sums[kColumns] = {};
    for (uint32_t quad = segment.first_quad + half; mine && quad < segment.end_quad; quad += kWarp / kPanel) {
      const int weights = four_of(values + (done + quad - segment.first_quad) * kPanel * 4);
      for (unsigned c = 0; c < kColumns; ++c)
        if (c < here) sums[c] = __dp4a(weights, four_of(x.values + (first + c) * x.stride + 4 * quad), sums[c]);
    }
    done += segment.end_quad - segment.first_quad;
    for (unsigned c = 0; c < kColumns; ++c) {
      const int sum = sums[c] + __shfl_xor_sync(kAll, sums[c], kPanel);
      if (mine) acc[c] = fmaf(scales[s * kPanel], static_cast<float>(sum), acc[c]);
    }
  }
  if (!mine || half != 0) return;
  const unsigned slot = panel * kPanel + row;
  const uint32_t place = row_of ? row_of[slot] : slot < w.rows ? slot : kNoRow;
  for (unsigned c = 0; c < here && place != kNoRow; ++c) out[(first + c) * out_stride + place] = acc[c] * x.scales[first + c];
}

// The same of int4: thread t has row t % 16, and of each group the quads 2i (t < 16) or 2i + 1.
TINYZH_KERNEL matmul_q4_kernel(float* out, size_t out_stride, Q4Panels w, Q8Rows x, unsigned batch) {
  const unsigned panel = blockIdx.x * kPanelsOfBlock + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const unsigned row = lane % kPanel, half = lane / kPanel;
  const bool mine = panel * kPanel < w.rows;
  const unsigned first = blockIdx.y * kColumns, here = batch - first < kColumns ? batch - first : kColumns;
  const Q4Group* const groups = w.groups + (mine ? static_cast<size_t>(panel) * w.group_count : 0);
  float acc[kColumns] = {};
  for (size_t g = 0; g < w.group_count; ++g) {
    int sums[kColumns] = {};
    for (unsigned i = 0; mine && i < 4; ++i) {
      int pairs;
      memcpy(&pairs, groups[g].values[i][row], sizeof pairs);
      const int weights = (half ? pairs >> 4 : pairs) & 0x0f0f0f0f;
      for (unsigned c = 0; c < kColumns; ++c)
        if (c < here) {
          const int8_t* const xs = x.values + (first + c) * x.stride + g * kGroupColumns + 8 * i + 4 * half;
          sums[c] = __dp4a(weights, four_of(xs), sums[c]);
        }
    }
    const float shift = static_cast<float>(groups[g].zeros[row]) * 0.0625f, scale = float_of_half(groups[g].scales[row]);
    for (unsigned c = 0; c < kColumns; ++c) {
      const int sum = sums[c] + __shfl_xor_sync(kAll, sums[c], kPanel);
      if (!mine || c >= here) continue;
      const float whole = static_cast<float>(sum) - shift * x.sums[(first + c) * (x.stride / kGroupColumns) + g];  // exact
      acc[c] = fmaf(scale, whole, acc[c]);
    }
  }
  for (unsigned c = 0; c < kColumns; ++c)
    if (mine && half == 0 && c < here && panel * kPanel + row < w.rows)
      out[(first + c) * out_stride + panel * kPanel + row] = acc[c] * x.scales[first + c];
}

// Turns the pairs of q (B, heads * S) and k (B, kv_heads * S) by their positions, and stores k and v (B, kv_heads * S)
// into the cache.  cos, sin (positions, S / 2).  A block a row.
template <class T>
TINYZH_KERNEL rope_store_kernel(float* q, float* k, const float* v, Rows rows, const float* cos, const float* sin,
                                CacheLayout layout) {
  const size_t row = blockIdx.x, position = static_cast<size_t>(rows.positions[row]);
  const unsigned pairs = layout.head_size / 2, heads = layout.heads, kv_heads = layout.kv_heads;
  const float *c = cos + position * pairs, *s = sin + position * pairs;
  std::byte* const block = rows.tables[row][position / kPositions];
  const unsigned slot = static_cast<unsigned>(position % kPositions);
  for (unsigned i = threadIdx.x; i < (heads + kv_heads) * pairs; i += kThreads) {
    const unsigned head = i / pairs, pair = i % pairs;
    const bool query = head < heads;
    float* const at = query ? q + row * heads * layout.head_size + head * layout.head_size + 2 * pair
                            : k + row * kv_heads * layout.head_size + (head - heads) * layout.head_size + 2 * pair;
    const float a = at[0], b = at[1];
    const float turned_a = fmaf(a, c[pair], -(b * s[pair])), turned_b = fmaf(b, c[pair], a * s[pair]);
    at[0] = turned_a;
    at[1] = turned_b;
    if (query) continue;
    const unsigned kv = head - heads;
    T* const keys = reinterpret_cast<T*>(block + layout.first + kv * layout.stride);
    keep(keys + 2 * pair * kPositions + slot, turned_a);
    keep(keys + (2 * pair + 1) * kPositions + slot, turned_b);
    T* const values = reinterpret_cast<T*>(block + layout.first + kv * layout.stride + layout.value_offset);
    const float* const from = v + row * kv_heads * layout.head_size + kv * layout.head_size;
    keep(values + slot * layout.value_row + 2 * pair, from[2 * pair]);
    keep(values + slot * layout.value_row + 2 * pair + 1, from[2 * pair + 1]);
  }
}

// out[b] (heads * S) = softmax(q . K / sqrt(S)) V over the positions up to the row's own.  scores: scratch of
// score_stride floats for each row and head.  A block for each row and head.
template <class T>
TINYZH_KERNEL attend_kernel(float* out, const float* q, Rows rows, float* scores, size_t score_stride, CacheLayout layout) {
  TINYZH_SHARED(float, most, kThreads / kWarp);
  TINYZH_SHARED(float, total, 1);
  const size_t row = blockIdx.x;
  const unsigned head = blockIdx.y, heads = layout.heads, size = layout.head_size, thread = threadIdx.x;
  const unsigned seen = static_cast<unsigned>(rows.positions[row]) + 1;
  std::byte* const* const blocks = rows.tables[row];
  const size_t keys_at = layout.first + head / (heads / layout.kv_heads) * layout.stride;
  const float* const query = q + (row * heads + head) * size;
  float* const p = scores + (row * heads + head) * score_stride;
  const float scale = 1.0f / sqrtf(static_cast<float>(size));

  // A thread a position.
  float largest = -INFINITY;
  for (unsigned t = thread; t < seen; t += kThreads) {
    const T* const keys = reinterpret_cast<const T*>(blocks[t / kPositions] + keys_at) + t % kPositions;
    float score = 0;
    for (unsigned d = 0; d < size; ++d) score = fmaf(query[d], widened(keys[d * kPositions]), score);
    score = score * scale;
    p[t] = score;
    largest = score > largest ? score : largest;
  }
  for (unsigned step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(kAll, largest, step);
    largest = other > largest ? other : largest;
  }
  if (thread % kWarp == 0) most[thread / kWarp] = largest;
  __syncthreads();
  for (unsigned warp = 0; warp < kThreads / kWarp; ++warp) {
    const float other = most[warp];
    largest = other > largest ? other : largest;
  }
  for (unsigned t = thread; t < seen; t += kThreads) p[t] = exp_of(p[t] - largest);
  __syncthreads();

  if (thread < kWarp) {
    float lane = 0;
    if (thread < kLanes)
      for (unsigned t = thread; t < seen; t += kLanes) lane = lane + p[t];
    lane = sum_of_lanes(lane);
    if (thread == 0) total[0] = lane;
  }
  __syncthreads();

  // A thread a dimension.
  const float whole = total[0];
  for (unsigned d = thread; d < size; d += kThreads) {
    float mixed = 0;
    for (unsigned t = 0; t < seen; ++t) {
      const T* const values = reinterpret_cast<const T*>(blocks[t / kPositions] + keys_at + layout.value_offset);
      mixed = fmaf(p[t], widened(values[t % kPositions * layout.value_row + d]), mixed);
    }
    out[(row * heads + head) * size + d] = mixed / whole;
  }
}

// gate = gate * sigmoid(gate) * up, both (B * H); a thread a number.
TINYZH_KERNEL swiglu_kernel(float* gate, const float* up, size_t n) {
  const size_t i = thread_of_grid();
  if (i < n) gate[i] = gate[i] / (1.0f + exp_of(0.0f - gate[i])) * up[i];
}

}  // namespace tinyzh::cuda
