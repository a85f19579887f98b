// Every kernel written once, over a vector of eight floats.  An instruction set brings its vector type
// (lanes_<isa>.h) and, where it has something better, its own function; the order of all operations
// is this file's.  Included by one .cc per instruction set, which compiles it with that set's flags,
// so nothing here may call code that another file also instantiates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/half.h"
#include "kernels/kernels.h"

namespace tinyzh {

template <class Lanes>
struct Generic {
  // ---- fp32 products ---------------------------------------------------------------------------

  // R x C dot products.  The R rows of weights, and of results, are `apart` rows from each other: rows
  // far apart are R long streams of memory, which the hardware fetches ahead; neighbouring rows would be
  // R short ones (at 3 KB a row that costs a third of the bandwidth).
  template <int R, int C>
  static inline void tile(float* out, size_t out_stride, const float* w, size_t apart, const float* x,
                          size_t x_stride, size_t cols) {
    const size_t w_stride = apart * cols;
    Lanes acc[R][C];
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) acc[r][c] = Lanes::splat(0);
    size_t k = 0;
    for (; k + 8 <= cols; k += 8) {
      Lanes xs[C];
      for (int c = 0; c < C; ++c) xs[c] = Lanes::load(x + c * x_stride + k);
      for (int r = 0; r < R; ++r) {
        const Lanes ws = Lanes::load(w + r * w_stride + k);
        for (int c = 0; c < C; ++c) acc[r][c] = fma(ws, xs[c], acc[r][c]);
      }
    }
    if (k < cols) {
      for (int r = 0; r < R; ++r) {
        const Lanes ws = Lanes::load(w + r * w_stride + k, cols - k);
        for (int c = 0; c < C; ++c)
          acc[r][c] = fma(ws, Lanes::load(x + c * x_stride + k, cols - k), acc[r][c]);
      }
    }
    for (int r = 0; r < R; ++r)
      for (int c = 0; c < C; ++c) out[c * out_stride + r * apart] = sum(acc[r][c]);
  }

  // Columns at a time: with four rows and 16 registers three, which makes 12 sums, 3 columns and 1 weight.
  static constexpr size_t kColumns = Lanes::kRegisters == 32 ? 6 : 3;

  // Columns [first, last).
  template <int R>
  static inline void columns(float* out, size_t out_stride, const float* w, size_t apart, const float* x,
                             size_t x_stride, size_t cols, size_t first, size_t last) {
    const auto at = [&]<int C>(size_t b) {
      tile<R, C>(out + b * out_stride, out_stride, w, apart, x + b * x_stride, x_stride, cols);
    };
    size_t b = first;
    for (; b + kColumns <= last; b += kColumns) at.template operator()<kColumns>(b);
    switch (last - b) {
      case 5: return at.template operator()<5>(b);
      case 4: return at.template operator()<4>(b);
      case 3: return at.template operator()<3>(b);
      case 2: return at.template operator()<2>(b);
      case 1: return at.template operator()<1>(b);
    }
  }

  static void matmul_f32(float* out, size_t out_stride, const float* w, const float* x,
                         size_t x_stride, size_t rows, size_t cols, size_t batch) {
    // Four rows of weights stay in the first cache while the columns pass by, in groups that fit the
    // second cache.
    constexpr size_t kRows = 4, kSecondCache = 256 * 1024;
    size_t group = kSecondCache / (cols * sizeof(float)) / kColumns * kColumns;
    if (group < kColumns) group = kColumns;
    const size_t apart = rows / kRows;
    for (size_t first = 0; first < batch; first += group) {
      const size_t last = first + group < batch ? first + group : batch;
      for (size_t r = 0; r < apart; ++r)
        columns<4>(out + r, out_stride, w + r * cols, apart, x, x_stride, cols, first, last);
      for (size_t r = apart * kRows; r < rows; ++r)
        columns<1>(out + r, out_stride, w + r * cols, 0, x, x_stride, cols, first, last);
    }
  }

  // ---- elementwise -----------------------------------------------------------------------------

  // f(lanes of x, count) for x in vectors of eight, the last one perhaps shorter.
  template <class F>
  static inline void each8(size_t n, F f) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) f(i, size_t{8});
    if (i < n) f(i, n - i);
  }
  static inline Lanes load(const float* p, size_t n) { return n == 8 ? Lanes::load(p) : Lanes::load(p, n); }
  static inline void store(Lanes a, float* p, size_t n) { n == 8 ? a.store(p) : a.store(p, n); }

  static constexpr float kHalfMax = 65504.0f;  // the largest fp16
  static constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, half to even

  // e^x with a relative error below 2^-23 over [-87.3, 88.3]; +0 below, e^88.3 above; NaN stays NaN.
  // x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r), P fitted by least squares reweighted
  // towards the largest relative error (4e-9 before rounding); then scaled by 2^n.
  static inline Lanes exp(Lanes x) {
    constexpr float kLowest = -87.3f, kHighest = 88.3f;
    const Lanes magic = Lanes::splat(kMagic);
    const Lanes inside = min(Lanes::splat(kHighest), max(Lanes::splat(kLowest), x));  // NaN passes
    const Lanes t = fma(inside, Lanes::splat(1.44269504088896341f), magic);
    const Lanes n = t - magic;
    Lanes r = fma(n, Lanes::splat(-0.693359375f), inside);
    r = fma(n, Lanes::splat(2.12194440e-4f), r);
    Lanes p = Lanes::splat(0.0013814539416f);
    for (float c : {0.0083687454462f, 0.041668388993f, 0.16666521132f, 0.49999994040f, 1.0f, 1.0f})
      p = fma(p, r, Lanes::splat(c));
    return keep_from(x, kLowest, p * Lanes::pow2_of_magic(t));
  }

  static void exp_shifted(float* x, size_t n, float shift) {
    each8(n, [&](size_t i, size_t m) { store(exp(load(x + i, m) - Lanes::splat(shift)), x + i, m); });
  }

  static void rmsnorm(float* out, const float* x, const float* weight, size_t n, float eps) {
    Lanes squares = Lanes::splat(0);
    each8(n, [&](size_t i, size_t m) {
      const Lanes a = load(x + i, m);
      squares = fma(a, a, squares);
    });
    const float scale = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + eps);
    each8(n, [&](size_t i, size_t m) {
      store(load(weight + i, m) * (load(x + i, m) * Lanes::splat(scale)), out + i, m);
    });
  }

  static void swiglu(float* gate, const float* up, size_t n) {
    const Lanes one = Lanes::splat(1), zero = Lanes::splat(0);
    each8(n, [&](size_t i, size_t m) {
      const Lanes g = load(gate + i, m);
      store(g / (one + exp(zero - g)) * load(up + i, m), gate + i, m);
    });
  }

  static void add(float* x, const float* y, size_t n) {
    each8(n, [&](size_t i, size_t m) { store(load(x + i, m) + load(y + i, m), x + i, m); });
  }

  static float quantise_row(int8_t* q, float* sums, const float* x, size_t n) {
    Lanes most = Lanes::splat(0);
    each8(n, [&](size_t i, size_t m) { most = Lanes::abs_max(load(x + i, m), most); });
    const float largest = Lanes::largest_bits(most);
    // Below this the reciprocal would overflow; such a row is nothing but zeros for the model.
    constexpr float kSmallest = 1e-35f;
    const bool zero = largest < kSmallest;
    const Lanes inverse = Lanes::splat(zero ? 0.0f : 127.0f / largest), magic = Lanes::splat(kMagic);
    each8(n, [&](size_t i, size_t m) {
      Lanes::store_int8_of_magic(load(x + i, m) * inverse + magic, q + i, m);
    });
    for (size_t i = n; i % kGroupColumns != 0; ++i) q[i] = 0;
    for (size_t i = 0; i < n; i += kGroupColumns) {
      int32_t total = 0;
      for (size_t k = 0; k < kGroupColumns; ++k) total += q[i + k];
      *sums++ = static_cast<float>(total);
    }
    return zero ? 0.0f : largest / 127.0f;
  }

  // ---- 4-bit weights ---------------------------------------------------------------------------

  struct Q4Choice {
    uint16_t scale;
    float zero;   // sixteenths, 0 ... 255
    float error;  // sum of squares
  };

  // Rounds 32 weights to q = round_half_even(w / scale + zero / 16) within 0 ... 15; in q too, if wanted.
  static inline Q4Choice try_q4(const float* w, float scale, float zero, uint8_t* q) {
    const uint16_t half = to_half(scale);
    const float exact = from_half(half);
    const float inverse = exact > 0 ? 1.0f / exact : 0.0f;
    const Lanes magic = Lanes::splat(kMagic), lowest = Lanes::splat(0), highest = Lanes::splat(15);
    const Lanes shift = Lanes::splat(zero * 0.0625f), step = Lanes::splat(0.0f - exact);
    Lanes squares = Lanes::splat(0);
    for (size_t i = 0; i < kGroupColumns; i += 8) {
      const Lanes x = Lanes::load(w + i);
      const Lanes inside = min(highest, max(lowest, fma(x, Lanes::splat(inverse), shift)));
      const Lanes t = inside + magic;
      const Lanes difference = fma(step, (t - magic) - shift, x);
      squares = fma(difference, difference, squares);
      if (q) Lanes::store_int8_of_magic(t, reinterpret_cast<int8_t*>(q) + i, 8);
    }
    return {half, zero, sum(squares)};
  }

  static bool quantise_q4(uint8_t* q, uint16_t* scale, uint8_t* zero, const float* w) {
    Lanes most = Lanes::splat(0), low = Lanes::splat(0), high = Lanes::splat(0);  // zero is inside the range, so that it has a code
    for (size_t i = 0; i < kGroupColumns; i += 8) {
      const Lanes x = Lanes::load(w + i);
      most = Lanes::abs_max(x, most);
      low = min(x, low);
      high = max(x, high);
    }
    if (!(Lanes::largest_bits(most) < kHalfMax)) return false;  // nor is a NaN
    const float lo = 0.0f - maximum(Lanes::splat(0) - low), hi = maximum(high);
    // The ends of the range are drawn in, each by itself: a few clipped weights cost less than coarse steps.
    constexpr float kEnds[] = {1.0f, 0.9f, 0.8f};
    Q4Choice best{0, 0, __builtin_inff()};
    const auto consider = [&](float s, float z) {
      const float rounded = from_half(to_half(s));
      const float at = rounded > 0 ? z / rounded * 16.0f + kMagic - kMagic : 0.0f;
      const Q4Choice choice = try_q4(w, rounded, at < 0 ? 0.0f : at > 255 ? 255.0f : at, nullptr);
      if (choice.error < best.error) best = choice;
    };
    for (float a : kEnds)
      for (float b : kEnds) consider((hi * b - lo * a) * (1.0f / 15), 0.0f - lo * a);
    try_q4(w, from_half(best.scale), best.zero, q);
    *scale = best.scale;
    *zero = static_cast<uint8_t>(best.zero);
    return true;
  }

  static void rope(float* x, const float* cos, const float* sin, size_t head_size, size_t heads) {
    for (size_t h = 0; h < heads; ++h, x += head_size)
      each8(head_size, [&](size_t i, size_t m) {
        store(Lanes::rotate_pairs(load(x + i, m), cos + i / 2, sin + i / 2, m / 2), x + i, m);
      });
  }

  // ---- attention -------------------------------------------------------------------------------

  static void narrow(uint16_t* out, const float* x, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) Lanes::load(x + i).store_half(out + i);
    for (; i < n; ++i) out[i] = to_half(x[i]);
  }

  // One algorithm for all types of a cache; Lanes::load widens.
  template <class T>
  static inline const T* at(const std::byte* block, size_t offset) {
    return reinterpret_cast<const T*>(block + offset);
  }
  template <class T>
  static constexpr bool kScaled = sizeof(T) == 1;

  // A head's part of a block is a few KB, and the next block lies somewhere else: too short for the hardware to
  // fetch ahead.  So what comes some blocks later is asked for while this is being computed, into the second
  // cache: the first can wait for too few lines at a time.
  static constexpr size_t kKeysAhead = 8, kValuesAhead = 4;  // blocks

  template <class T>
  static inline void prefetch(const T* next, size_t done, size_t step) {
    constexpr size_t kLine = 64 / sizeof(T);
    constexpr int kSecondCache = 2;
    if (step >= kLine)
      for (size_t i = 0; i < step; i += kLine) __builtin_prefetch(next + done + i, 0, kSecondCache);
    else if (done % kLine == 0)
      __builtin_prefetch(next + done, 0, kSecondCache);
  }

  // Block `later` of the part `here`; beyond the last block, as far into the part `after`, which is read next.
  template <class T>
  static inline const T* ahead(const AttentionHead& head, size_t later, size_t blocks, size_t here, size_t after) {
    if (later < blocks) return at<T>(head.blocks[later], here);
    return at<T>(head.blocks[later - blocks < blocks ? later - blocks : 0], after);
  }

  // Scores of R rows with N blocks: 2 R N independent sums.  What comes later: keys of later blocks, after them the
  // first values.
  template <class T, int R, int N>
  static inline void score_blocks(float* scores, size_t stride, const float* q, size_t q_stride,
                                  const AttentionHead& head, size_t block, size_t blocks, float scale) {
    const T *keys[N], *next[N];
    Lanes acc[R][N][2];
    for (int j = 0; j < N; ++j) {
      keys[j] = at<T>(head.blocks[block + j], head.keys);
      next[j] = ahead<T>(head, block + static_cast<size_t>(j) + kKeysAhead, blocks, head.keys, head.values);
      for (int r = 0; r < R; ++r) acc[r][j][0] = acc[r][j][1] = Lanes::splat(0);
    }
    for (size_t d = 0; d < head.head_size; ++d) {
      Lanes qd[R];
      for (int r = 0; r < R; ++r) qd[r] = Lanes::splat(q[r * q_stride + d]);
      for (int j = 0; j < N; ++j) {
        prefetch(next[j], d * kBlockPositions, kBlockPositions);
        for (int half = 0; half < 2; ++half) {
          const Lanes k = Lanes::load(keys[j] + d * kBlockPositions + half * 8);
          for (int r = 0; r < R; ++r) acc[r][j][half] = fma(qd[r], k, acc[r][j][half]);
        }
      }
    }
    for (int j = 0; j < N; ++j)
      for (int half = 0; half < 2; ++half)
        for (int r = 0; r < R; ++r) {
          Lanes s = acc[r][j][half];
          if constexpr (kScaled<T>)
            s = s * Lanes::load(at<float>(head.blocks[block + j], head.key_scales) + half * 8);
          (s * Lanes::splat(scale)).store(scores + r * stride + (block + j) * kBlockPositions + half * 8);
        }
  }

  // Scores to p = exp(score - largest), times the scale of the value (int8); the sum of p without that scale.
  template <class T>
  static inline float softmax(float* scores, const AttentionHead& head, size_t positions) {
    Lanes most = Lanes::splat(-__builtin_inff());
    size_t whole = 0;
    for (; whole + 8 <= positions; whole += 8) most = max(Lanes::load(scores + whole), most);
    float largest = maximum(most);
    for (size_t i = whole; i < positions; ++i) largest = scores[i] > largest ? scores[i] : largest;
    Lanes total = Lanes::splat(0);
    each8(positions, [&](size_t i, size_t m) {
      const Lanes p = exp(load(scores + i, m) - Lanes::splat(largest));
      store(p, scores + i, m);
      total = total + load(scores + i, m);
      if constexpr (kScaled<T>) {
        const float* scales = at<float>(head.blocks[i / kBlockPositions], head.value_scales) + i % kBlockPositions;
        store(p * load(scales, m), scores + i, m);
      }
    });
    return sum(total);
  }

  // N vectors of the outputs of R rows at once, over all positions: those that all rows see, then each its own.
  template <class T, int R, int N>
  static inline void mix_values(float* out, size_t out_stride, const float* p, size_t stride,
                                const AttentionHead& head, const float* totals, size_t d) {
    const size_t row = padded8(head.head_size), blocks = (head.positions + kBlockPositions - 1) / kBlockPositions;
    Lanes acc[R][N];
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < N; ++j) acc[r][j] = Lanes::splat(0);
    for (size_t first = 0; first < head.positions; first += kBlockPositions) {
      const size_t block = first / kBlockPositions;
      const size_t end = head.positions - first < kBlockPositions ? head.positions - first : kBlockPositions;
      const T* v = at<T>(head.blocks[block], head.values) + d;
      const T* next = ahead<T>(head, block + kValuesAhead, blocks, head.values, head.next_keys) + d;
      for (size_t t = 0; t < end; ++t) {
        prefetch(next + t * row, 0, 8 * N);
        for (int j = 0; j < N; ++j) {
          const Lanes value = Lanes::load(v + t * row + 8 * j);
          for (int r = 0; r < R; ++r) acc[r][j] = fma(Lanes::splat(p[r * stride + first + t]), value, acc[r][j]);
        }
      }
    }
    for (int r = 1; r < R; ++r)
      for (size_t t = head.positions; t < head.positions + static_cast<size_t>(r); ++t) {
        const T* v = at<T>(head.blocks[t / kBlockPositions], head.values) + t % kBlockPositions * row + d;
        for (int j = 0; j < N; ++j) acc[r][j] = fma(Lanes::splat(p[r * stride + t]), Lanes::load(v + 8 * j), acc[r][j]);
      }
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < N; ++j) {
        const size_t first = d + 8 * static_cast<size_t>(j), left = head.head_size - first;
        store(acc[r][j] / Lanes::splat(totals[r]), out + r * out_stride + first, left < 8 ? left : 8);
      }
  }

  template <class T, int R>
  static inline void attend_rows(float* out, size_t out_stride, const float* q, size_t q_stride,
                                 const AttentionHead& head, float* scores) {
    constexpr int kBlocks = R == 1 ? 4 : 1, kVectors = R == 1 ? 8 : 2;
    const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(head.head_size));
    const size_t blocks = (head.positions + R - 1 + kBlockPositions - 1) / kBlockPositions;
    const size_t stride = blocks * kBlockPositions;
    size_t b = 0;
    for (; b + kBlocks <= blocks; b += kBlocks)
      score_blocks<T, R, kBlocks>(scores, stride, q, q_stride, head, b, blocks, scale);
    for (; b < blocks; ++b) score_blocks<T, R, 1>(scores, stride, q, q_stride, head, b, blocks, scale);
    float totals[R];
    for (int r = 0; r < R; ++r) totals[r] = softmax<T>(scores + r * stride, head, head.positions + static_cast<size_t>(r));
    size_t d = 0;
    for (; d + 8 * kVectors <= head.head_size; d += 8 * kVectors)
      mix_values<T, R, kVectors>(out, out_stride, scores, stride, head, totals, d);
    for (; d < head.head_size; d += 8) mix_values<T, R, 1>(out, out_stride, scores, stride, head, totals, d);
  }

  template <class T>
  static void attention(float* out, size_t out_stride, const float* q, size_t q_stride, const AttentionHead& head,
                        size_t rows, float* scores) {
    constexpr size_t kTogether = Lanes::kRegisters == 32 ? 8 : 4;
    AttentionHead rest = head;
    for (size_t r = 0; r < rows;) {
      const bool several = rows - r >= kTogether;
      (several ? attend_rows<T, kTogether> : attend_rows<T, 1>)(out + r * out_stride, out_stride, q + r * q_stride,
                                                                q_stride, rest, scores);
      const size_t step = several ? kTogether : 1;
      r += step;
      rest.positions += step;
    }
  }

  // The table of an instruction set: what is here, and its own products of quantised matrices.
  static constexpr Kernels table(const char* name, decltype(Kernels::matmul_q8) matmul_q8,
                                 decltype(Kernels::matmul_q4) matmul_q4) {
    return {
        .name = name,
        .matmul_f32 = matmul_f32,
        .matmul_q8 = matmul_q8,
        .matmul_q4 = matmul_q4,
        .quantise_row = quantise_row,
        .quantise_q4 = quantise_q4,
        .rmsnorm = rmsnorm,
        .swiglu = swiglu,
        .add = add,
        .rope = rope,
        .attention = {attention<float>, attention<uint16_t>, attention<int8_t>},
        .narrow = narrow,
        .exp_shifted = exp_shifted,
    };
  }
};

}  // namespace tinyzh
