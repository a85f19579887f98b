// AVX2 with FMA and F16C.  The whole file is compiled for these; nothing in it runs unless the processor
// has them.
#if defined(__x86_64__)
#define TINYZH_ISA_NAMESPACE avx2
#include "kernels/lanes_avx2.h"

#include <cstring>

#include "kernels/generic.h"

namespace tinyzh {
namespace {

using G = Generic<avx2::Lanes>;

inline __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline __m256i four_columns(const int8_t* x) {  // in every lane
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

// The sixteen results of a panel, or the first of them.
inline void store_rows(float* out, __m256 low, __m256 high, size_t rows) {
  if (rows >= kPanelRows) {
    _mm256_storeu_ps(out, low);
    _mm256_storeu_ps(out + 8, high);
  } else {
    _mm256_maskstore_ps(out, avx2::first_lanes(rows < 8 ? rows : 8), low);
    if (rows > 8) _mm256_maskstore_ps(out + 8, avx2::first_lanes(rows - 8), high);
  }
}

// The sums of a tile, times the scales of its columns.
template <int P, int C>
inline void store_tile(float* out, size_t out_stride, const __m256 (&acc)[P][2][C], size_t rows, size_t panel,
                       size_t apart, const Q8Rows& x, size_t b) {
  for (int p = 0; p < P; ++p)
    for (int c = 0; c < C; ++c) {
      const size_t first = (panel + p * apart) * kPanelRows;
      const __m256 x_scale = _mm256_set1_ps(x.scales[b + c]);
      store_rows(out + (b + c) * out_stride + first, _mm256_mul_ps(acc[p][0][c], x_scale),
                 _mm256_mul_ps(acc[p][1][c], x_scale), rows - first);
    }
}

// ---- int8 -----------------------------------------------------------------------------------------

// P panels, `apart` from each other, times C columns.  Bytes are multiplied as |w| * (x with the sign of
// w): both factors then fit pmaddubsw, whose pair sums (at most 2 * 128 * 127 = 32512) cannot saturate.
template <int P, int C>
inline void tile_q8(float* out, size_t out_stride, const Q8Panels& w, size_t panel, size_t apart, const Q8Rows& x,
                    size_t b) {
  const __m256i ones = _mm256_set1_epi16(1);
  const int8_t* values[P];
  const float* scales[P];
  const int8_t* columns[C];
  for (int p = 0; p < P; ++p) {
    values[p] = w.values + (panel + p * apart) * w.quads * 64;
    scales[p] = w.scales + (panel + p * apart) * w.segment_count * kPanelRows;
  }
  for (int c = 0; c < C; ++c) columns[c] = x.values + (b + c) * x.stride;
  __m256 acc[P][2][C];
  for (auto& panels : acc)
    for (auto& halves : panels)
      for (__m256& a : halves) a = _mm256_setzero_ps();
  size_t offset = 0;
  for (size_t s = 0; s < w.segment_count; ++s) {
    __m256i dot[P][2][C];
    for (auto& panels : dot)
      for (auto& halves : panels)
        for (__m256i& d : halves) d = _mm256_setzero_si256();
    for (size_t quad = w.segments[s].first_quad; quad < w.segments[s].end_quad; ++quad, offset += 64) {
      for (int p = 0; p < P; ++p) {
        const __m256i low = load(values[p] + offset), high = load(values[p] + offset + 32);
        const __m256i low_size = _mm256_abs_epi8(low), high_size = _mm256_abs_epi8(high);
        for (int c = 0; c < C; ++c) {
          const __m256i four = four_columns(columns[c] + 4 * quad);
          const __m256i first = _mm256_maddubs_epi16(low_size, _mm256_sign_epi8(four, low));
          const __m256i second = _mm256_maddubs_epi16(high_size, _mm256_sign_epi8(four, high));
          dot[p][0][c] = _mm256_add_epi32(dot[p][0][c], _mm256_madd_epi16(first, ones));
          dot[p][1][c] = _mm256_add_epi32(dot[p][1][c], _mm256_madd_epi16(second, ones));
        }
      }
    }
    for (int p = 0; p < P; ++p)
      for (int half = 0; half < 2; ++half) {
        const __m256 scale = _mm256_loadu_ps(scales[p] + s * kPanelRows + half * 8);
        for (int c = 0; c < C; ++c)
          acc[p][half][c] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot[p][half][c]), acc[p][half][c]);
      }
  }
  store_tile(out, out_stride, acc, w.rows, panel, apart, x, b);
}

// ---- int4 -----------------------------------------------------------------------------------------

// Values are 0 ... 15, so pair sums are at most 2 * 15 * 127 and eight of them fit 16 bits.
template <int P, int C>
inline void tile_q4(float* out, size_t out_stride, const Q4Panels& w, size_t panel, size_t apart, const Q8Rows& x,
                    size_t b) {
  const __m256i ones = _mm256_set1_epi16(1), nibble = _mm256_set1_epi8(15);
  const size_t sums_stride = x.stride / kGroupColumns;
  __m256 acc[P][2][C];
  for (auto& panels : acc)
    for (auto& halves : panels)
      for (__m256& a : halves) a = _mm256_setzero_ps();
  for (size_t g = 0; g < w.group_count; ++g) {
    for (int p = 0; p < P; ++p) {
      const Q4Group& group = w.groups[(panel + p * apart) * w.group_count + g];
      __m256i pairs[2][C];
      for (auto& halves : pairs)
        for (__m256i& d : halves) d = _mm256_setzero_si256();
      for (size_t i = 0; i < 4; ++i)
        for (int half = 0; half < 2; ++half) {
          const __m256i two = load(group.values[i][8 * half]);
          const __m256i low = _mm256_and_si256(two, nibble);
          const __m256i high = _mm256_and_si256(_mm256_srli_epi16(two, 4), nibble);
          for (int c = 0; c < C; ++c) {
            const int8_t* xs = x.values + (b + c) * x.stride + g * kGroupColumns + 8 * i;
            const __m256i a = _mm256_maddubs_epi16(low, four_columns(xs));
            const __m256i z = _mm256_maddubs_epi16(high, four_columns(xs + 4));
            pairs[half][c] = _mm256_add_epi16(pairs[half][c], _mm256_add_epi16(a, z));
          }
        }
      for (int half = 0; half < 2; ++half) {
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(group.scales + 8 * half));
        const __m128i sixteenths = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(group.zeros + 8 * half));
        const __m256 scale = _mm256_cvtph_ps(halves);
        const __m256 shift =
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(sixteenths)), _mm256_set1_ps(0.0625f));
        for (int c = 0; c < C; ++c) {
          const __m256 sum = _mm256_set1_ps(x.sums[(b + c) * sums_stride + g]);
          const __m256 dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs[half][c], ones));
          acc[p][half][c] = _mm256_fmadd_ps(scale, _mm256_fnmadd_ps(shift, sum, dot), acc[p][half][c]);
        }
      }
    }
  }
  store_tile(out, out_stride, acc, w.rows, panel, apart, x, b);
}

// ---- all panels and all columns -------------------------------------------------------------------

// One column: memory is the limit, and two panels far apart are two streams of it.  More: as many at a time
// as keep sums, weights and a column in sixteen registers.  tile<P, C>(panel, apart, b).
template <size_t kColumns, class Tile>
inline void each_tile(size_t rows, size_t batch, Tile tile) {
  static_assert(kColumns <= 4);
  const size_t panels = (rows + kPanelRows - 1) / kPanelRows;
  if (batch == 1) {
    const size_t apart = panels / 2;
    for (size_t p = 0; p < apart; ++p) tile.template operator()<2, 1>(p, apart, 0);
    if (panels % 2) tile.template operator()<1, 1>(panels - 1, 0, 0);
    return;
  }
  for (size_t p = 0; p < panels; ++p) {
    size_t b = 0;
    for (; b + kColumns <= batch; b += kColumns) tile.template operator()<1, kColumns>(p, 0, b);
    switch (batch - b) {
      case 3: tile.template operator()<1, 3>(p, 0, b); break;
      case 2: tile.template operator()<1, 2>(p, 0, b); break;
      case 1: tile.template operator()<1, 1>(p, 0, b); break;
    }
  }
}

void matmul_q8(float* out, size_t out_stride, const Q8Panels& w, const Q8Rows& x, size_t batch) {
  each_tile<4>(w.rows, batch, [&]<int P, int C>(size_t panel, size_t apart, size_t b) {
    tile_q8<P, C>(out, out_stride, w, panel, apart, x, b);
  });
}

void matmul_q4(float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, size_t batch) {
  each_tile<3>(w.rows, batch, [&]<int P, int C>(size_t panel, size_t apart, size_t b) {
    tile_q4<P, C>(out, out_stride, w, panel, apart, x, b);
  });
}

}  // namespace

constinit const Kernels kAvx2Kernels = G::table("avx2", matmul_q8, matmul_q4);

}  // namespace tinyzh
#endif
