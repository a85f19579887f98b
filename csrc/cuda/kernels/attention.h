// Attention over the paged cache: queries and keys are turned, keys and values stored, and looked at.
#pragma once

#include "cuda/kernels/activations.h"

namespace tinyzh::cuda {

inline constexpr unsigned kPositions = 16;  // of a block of the KV cache: kBlockPositions

// What the cache keeps of a number: fp32, fp16, or int8 with a scale for each head's keys and values of a position.
TINYZH_DEVICE float stored(float x) { return x; }
TINYZH_DEVICE float stored(uint16_t x) { return float_of_half(x); }
TINYZH_DEVICE float stored(int8_t x) { return static_cast<float>(x); }
TINYZH_DEVICE void keep(float* place, float x) { *place = x; }
TINYZH_DEVICE void keep(uint16_t* place, float x) { *place = half_of_float(x); }

template <class T>
inline constexpr bool kScaled = sizeof(T) == 1;

// One head's part of one block of the cache.
template <class T>
struct HeadBlock {
  const std::byte* at;
  const CacheLayout& layout;

  TINYZH_INLINE const T* keys() const { return reinterpret_cast<const T*>(at); }                           // (S, 16)
  TINYZH_INLINE const T* values() const { return reinterpret_cast<const T*>(at + layout.value_offset); }   // (16, value_row)
  TINYZH_INLINE const float* key_scales() const { return reinterpret_cast<const float*>(at + layout.scale_offset); }
  TINYZH_INLINE const float* value_scales() const { return key_scales() + kPositions; }
};
template <class T>
TINYZH_DEVICE HeadBlock<T> head_block(std::byte* const* blocks, unsigned block, unsigned kv_head, const CacheLayout& layout) {
  return {blocks[block] + layout.first + kv_head * layout.stride, layout};
}

// Turns the pairs of q (B, heads * S) and k (B, kv_heads * S) by their positions, and stores k and v (B, kv_heads * S)
// into the cache.  cos, sin (positions, S / 2).  A block a row.
template <class T>
TINYZH_KERNEL rope_store_kernel(float* q, float* k, const float* v, Rows rows, const float* cos, const float* sin,
                                CacheLayout layout) {
  const size_t row = blockIdx.x, position = static_cast<size_t>(rows.positions[row]);
  const unsigned size = layout.head_size, pairs = size / 2, heads = layout.heads, kv_heads = layout.kv_heads;
  const float *c = cos + position * pairs, *s = sin + position * pairs;
  std::byte* const block = rows.tables[row][position / kPositions] + layout.first;
  const unsigned slot = static_cast<unsigned>(position % kPositions);
  float* const own_k = k + row * kv_heads * size;
  const float* const own_v = v + row * kv_heads * size;
  for (unsigned i = threadIdx.x; i < (heads + kv_heads) * pairs; i += kThreads) {
    const unsigned pair = i % pairs;
    float* const at = i < heads * pairs ? q + row * heads * size + 2 * i : own_k + 2 * (i - heads * pairs);
    const float a = at[0], b = at[1];
    at[0] = fmaf(a, c[pair], -(b * s[pair]));
    at[1] = fmaf(b, c[pair], a * s[pair]);
  }
  __syncthreads();
  if constexpr (kScaled<T>) {  // a warp for the keys or the values of a head
    for (unsigned i = warp_of_thread(); i < 2 * kv_heads; i += kWarps) {
      const unsigned head = i / 2, is_value = i % 2;
      std::byte* const at = block + head * layout.stride;
      const float* const from = (is_value ? own_v : own_k) + head * size;
      uint32_t most = 0;
      for (unsigned d = lane_of_thread(); d < size; d += kWarp) most = magnitude(from[d]) > most ? magnitude(from[d]) : most;
      const Int8 to = int8_of(most_of_warp(most));
      int8_t* const place = reinterpret_cast<int8_t*>(at + (is_value ? layout.value_offset + slot * layout.value_row : slot));
      for (unsigned d = lane_of_thread(); d < size; d += kWarp) place[is_value ? d : d * kPositions] = rounded(from[d], to);
      float* const scales = reinterpret_cast<float*>(at + layout.scale_offset);
      if (lane_of_thread() == 0) scales[is_value * kPositions + slot] = to.scale;
    }
  } else {
    for (unsigned i = threadIdx.x; i < kv_heads * size; i += kThreads) {
      const unsigned head = i / size, d = i % size;
      std::byte* const at = block + head * layout.stride;
      keep(reinterpret_cast<T*>(at) + d * kPositions + slot, own_k[i]);
      keep(reinterpret_cast<T*>(at + layout.value_offset) + slot * layout.value_row + d, own_v[i]);
    }
  }
}

// The zeros behind the last column of a row, which belongs to no head.
TINYZH_DEVICE void fill_up(const Activations& out, unsigned row, unsigned head, unsigned heads) {
  if (out.half && head == heads - 1)
    for (unsigned i = out.cols + threadIdx.x; i < out.stride; i += kThreads) write_number(out, row, i, 0.0f);
}

// out[b] (heads * S) = softmax(q . K / sqrt(S)) V over the positions up to the row's own, with the sums of the CPU.  A
// block for each row and head; of int8 activations the last one of a row to come here finishes it.
template <class T>
TINYZH_KERNEL attend_kernel(Activations out, const float* q, Rows rows, AttentionScratch scratch, CacheLayout layout) {
  TINYZH_SHARED(float, most, kWarps);
  TINYZH_SHARED(float, total, 1);
  const unsigned row = blockIdx.x, head = blockIdx.y, heads = layout.heads, size = layout.head_size, thread = threadIdx.x;
  const unsigned seen = static_cast<unsigned>(rows.positions[row]) + 1, kv_head = head / (heads / layout.kv_heads);
  std::byte* const* const blocks = rows.tables[row];
  const size_t row_head = static_cast<size_t>(row) * heads + head;
  const float* const query = q + row_head * size;
  float* const p = scratch.scores + row_head * scratch.score_stride;
  const float scale = 1.0f / sqrtf(static_cast<float>(size));

  // A thread a position.
  float largest = -INFINITY;
  for (unsigned t = thread; t < seen; t += kThreads) {
    const auto block = head_block<T>(blocks, t / kPositions, kv_head, layout);
    const T* const keys = block.keys() + t % kPositions;
    float score = 0;
    TINYZH_UNROLL(16)
    for (unsigned d = 0; d < size; ++d) score = fmaf(query[d], stored(keys[d * kPositions]), score);
    if constexpr (kScaled<T>) score = score * block.key_scales()[t % kPositions];
    score = score * scale;
    p[t] = score;
    largest = score > largest ? score : largest;
  }
  largest = most_of_warp(largest);
  if (thread % kWarp == 0) most[thread / kWarp] = largest;
  __syncthreads();
  for (unsigned warp = 0; warp < kWarps; ++warp) {
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
    for (unsigned first = 0; first < seen; first += kPositions) {
      const auto block = head_block<T>(blocks, first / kPositions, kv_head, layout);
      const unsigned here = seen - first < kPositions ? seen - first : kPositions;
      TINYZH_UNROLL(16)
      for (unsigned t = 0; t < here; ++t) {
        float weight = p[first + t];
        if constexpr (kScaled<T>) weight = weight * block.value_scales()[t];
        mixed = fmaf(weight, stored(block.values()[t * layout.value_row + d]), mixed);
      }
    }
    write_number(out, row, head * size + d, mixed / whole);
  }
  fill_up(out, row, head, heads);
  if (!is_quantised(out.precision)) return;

  TINYZH_SHARED(uint32_t, arrived, 1);
  __threadfence();
  __syncthreads();
  if (thread == 0) arrived[0] = atomicAdd(scratch.arrived + row, 1u);
  __syncthreads();
  if (arrived[0] != heads - 1) return;
  __threadfence();
  if (thread == 0) scratch.arrived[row] = 0;
  write_row(out, row, [&](unsigned i) { return fresh(out.f32 + static_cast<size_t>(row) * out.cols + i); });
}

// The element of some that are loaded together.
TINYZH_DEVICE float element(float, const uint32_t* words, unsigned i) { return float_of(words[i]); }
TINYZH_DEVICE float element(uint16_t, const uint32_t* words, unsigned i) {
  return float_of_half(static_cast<uint16_t>(words[i / 2] >> i % 2 * 16));
}
TINYZH_DEVICE float element(int8_t, const uint32_t* words, unsigned i) {
  return static_cast<float>(static_cast<int8_t>(words[i / 4] >> i % 4 * 8));
}

// The same with sums in an order of its own, for activations of 16 bits: loads are wide, and the four warps take the
// blocks of the cache in turn, each with a maximum of its own so far.  A row's bits depend on nothing but what it sees.
// value_row takes at most 256 bytes.
template <class T>
TINYZH_KERNEL attend_freely_kernel(Activations out, const float* q, Rows rows, CacheLayout layout) {
  // Keys: a load has kWide neighbouring positions of one dimension; a warp loads kChunks of them for each of its
  // dimensions.  Afterwards lane l has the score of position l % kChunks * kWide + l / (2 kChunks), as has l ^ kChunks.
  constexpr unsigned kWide = 16 / sizeof(T), kChunks = kPositions / kWide;
  // Values: a load has kTogether neighbouring dimensions of one position; a lane has the same ones of every
  // `groups`th position.
  constexpr unsigned kTogether = 8 / sizeof(T);
  TINYZH_SHARED(float, mixed, kThreads * kTogether);
  TINYZH_SHARED(float, most, kWarps);
  TINYZH_SHARED(float, total, kWarps);
  const unsigned row = blockIdx.x, head = blockIdx.y, heads = layout.heads, size = layout.head_size;
  const unsigned lane = lane_of_thread(), warp = warp_of_thread();
  const unsigned seen = static_cast<unsigned>(rows.positions[row]) + 1, kv_head = head / (heads / layout.kv_heads);
  std::byte* const* const blocks = rows.tables[row];
  const float* const query = q + (static_cast<size_t>(row) * heads + head) * size;
  const float scale = 1.0f / sqrtf(static_cast<float>(size));
  const unsigned columns = layout.value_row / kTogether, groups = kWarp / columns;
  const unsigned group = lane / columns, column = lane % columns;  // groups * columns lanes have values
  const unsigned slot = lane % kChunks * kWide + lane / (2 * kChunks);

  float so_far = -INFINITY, sum = 0, acc[kTogether] = {};
  for (unsigned first = warp * kPositions; first < seen; first += kWarps * kPositions) {
    const auto block = head_block<T>(blocks, first / kPositions, kv_head, layout);
    const unsigned here = seen - first;  // perhaps more than the block has

    Words2 values[kPositions];  // under way while the scores are made
    TINYZH_UNROLL()
    for (unsigned i = 0; i < kPositions; ++i) {
      const unsigned t = i * groups + group;
      values[i] = {};
      if (group < groups && t < kPositions && t < here)
        values[i] = load_as<Words2>(block.values() + t * layout.value_row + column * kTogether);
    }

    float scores[kWide] = {};
    TINYZH_UNROLL(4)
    for (unsigned d = lane / kChunks; d < size; d += kWarp / kChunks) {
      const Words4 keys = load_as<Words4>(block.keys() + d * kPositions + lane % kChunks * kWide);
      for (unsigned i = 0; i < kWide; ++i) scores[i] = fmaf(query[d], element(T(), keys.word, i), scores[i]);
    }
    // Sums over the lanes of a chunk: each step halves the positions that a lane has, down to one.
    unsigned left = kWide;
    TINYZH_UNROLL()
    for (unsigned bit = kWarp / 2; bit >= kChunks; bit /= 2) {
      if (left == 1) {
        scores[0] = scores[0] + __shfl_xor_sync(kAll, scores[0], bit);
        continue;
      }
      left /= 2;
      TINYZH_UNROLL()
      for (unsigned i = 0; i < left; ++i) {
        const bool upper = lane & bit;
        const float given = upper ? scores[i] : scores[i + left], kept = upper ? scores[i + left] : scores[i];
        scores[i] = kept + __shfl_xor_sync(kAll, given, bit);
      }
    }
    float score = scores[0];
    if constexpr (kScaled<T>) score = slot < here ? score * block.key_scales()[slot] : score;
    score = slot < here ? score * scale : -INFINITY;

    const float block_most = most_of_warp(score), largest = block_most > so_far ? block_most : so_far;
    const float shrink = exp_of(so_far - largest);
    float p = exp_of(score - largest);
    so_far = largest;
    sum = sum * shrink + (lane & kChunks ? 0.0f : p);
    if constexpr (kScaled<T>) p = slot < here ? p * block.value_scales()[slot] : 0.0f;
    for (unsigned e = 0; e < kTogether; ++e) acc[e] = acc[e] * shrink;
    TINYZH_UNROLL()
    for (unsigned i = 0; i < kPositions; ++i) {
      if (i * groups >= kPositions) break;
      const unsigned t = i * groups + group;
      const float weight = __shfl_sync(kAll, p, t / kWide + t % kWide * (2 * kChunks));
      if (group < groups && t < kPositions)
        for (unsigned e = 0; e < kTogether; ++e) acc[e] = fmaf(weight, element(T(), values[i].word, e), acc[e]);
    }
  }
  sum = sum_of_lanes(sum, kWarp);
  for (unsigned e = 0; e < kTogether; ++e) mixed[threadIdx.x * kTogether + e] = acc[e];
  if (lane == 0) {
    most[warp] = so_far;
    total[warp] = sum;
  }
  __syncthreads();

  float largest = most[0], shares[kWarps], whole = 0;
  for (unsigned w = 1; w < kWarps; ++w) largest = most[w] > largest ? static_cast<float>(most[w]) : largest;
  for (unsigned w = 0; w < kWarps; ++w) {
    shares[w] = exp_of(most[w] - largest);
    whole = whole + shares[w] * total[w];
  }
  for (unsigned d = threadIdx.x; d < size; d += kThreads) {
    float value = 0;
    for (unsigned w = 0; w < kWarps; ++w) {
      float of_warp = 0;
      for (unsigned g = 0; g < groups; ++g)
        of_warp = of_warp + mixed[(w * kWarp + g * columns + d / kTogether) * kTogether + d % kTogether];
      value = fmaf(shares[w], of_warp, value);
    }
    write_number(out, row, head * size + d, value / whole);
  }
  fill_up(out, row, head, heads);
}

}  // namespace tinyzh::cuda
