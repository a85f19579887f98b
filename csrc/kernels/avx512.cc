// AVX-512 (F, BW, DQ, VL) with VNNI: Intel since Cascade Lake, AMD since Zen 4.  The whole file is compiled
// for these; nothing in it runs unless the processor has them.  fp32 works on eight lanes as everywhere,
// with 32 registers; int8 and int4 on sixteen rows at a time.
#if defined(__x86_64__)
#define TINYZH_ISA_NAMESPACE avx512
#include "kernels/lanes_avx2.h"

#include <cstring>

#include "kernels/generic.h"

namespace tinyzh {
namespace {

using G = Generic<avx512::Lanes>;

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }

inline __m512i four_columns(const int8_t* x) {  // in every lane
  int32_t four;
  std::memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
}

// The sixteen results of a panel, or the first of them.
inline void store_rows(float* out, __m512 results, size_t rows) {
  if (rows >= kPanelRows)
    _mm512_storeu_ps(out, results);
  else
    _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << rows) - 1), results);
}

// The sums of a tile, times the scales of its columns.
template <int P, int C>
inline void store_tile(float* out, size_t out_stride, const __m512 (&acc)[P][C], size_t rows, size_t panel,
                       size_t apart, const Q8Rows& x, size_t b) {
  for (int p = 0; p < P; ++p) {
    const size_t first = (panel + p * apart) * kPanelRows;
    for (int c = 0; c < C; ++c)
      store_rows(out + (b + c) * out_stride + first, _mm512_mul_ps(acc[p][c], _mm512_set1_ps(x.scales[b + c])),
                 rows - first);
  }
}

// ---- int8 -----------------------------------------------------------------------------------------

// vpdpbusd multiplies unsigned by signed bytes: weights are taken as w + 128, and 128 * sum(x) goes off at
// the end.  Sums stay below 2^31 up to 66,000 columns (255 * 127 each).
inline int32_t sum_of(const Q8Rows& x, size_t b, Segment segment, bool last) {
  const int8_t* values = x.values + b * x.stride;
  if (segment.first_quad % 8 == 0 && (segment.end_quad % 8 == 0 || last)) {  // beyond the last are zeros
    const float* sums = x.sums + b * (x.stride / kGroupColumns);
    int32_t total = 0;
    for (size_t i = segment.first_quad / 8; i < (segment.end_quad + 7) / 8; ++i) total += static_cast<int32_t>(sums[i]);
    return total;
  }
  int32_t total = 0;
  for (size_t i = 4 * segment.first_quad; i < 4 * segment.end_quad; ++i) total += values[i];
  return total;
}

// P panels, `apart` from each other, times C columns.
template <int P, int C>
void tile_q8(float* out, size_t out_stride, const Q8Panels& w, size_t panel, size_t apart, const Q8Rows& x, size_t b) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  const int8_t* values = w.values + panel * w.quads * 64;
  const float* scales = w.scales + panel * w.segment_count * kPanelRows;
  const int8_t* columns = x.values + b * x.stride;
  __m512 acc[P][C];
  for (auto& panels : acc)
    for (__m512& a : panels) a = _mm512_setzero_ps();
  for (size_t s = 0; s < w.segment_count; ++s) {
    const Segment segment = w.segments[s];
    __m512i dot[P][C];
    for (int c = 0; c < C; ++c) {
      const __m512i start = _mm512_set1_epi32(-128 * sum_of(x, b + c, segment, s + 1 == w.segment_count));
      for (int p = 0; p < P; ++p) dot[p][c] = start;
    }
    for (size_t quad = segment.first_quad; quad < segment.end_quad; ++quad, values += 64) {
      __m512i weights[P];
      for (int p = 0; p < P; ++p) weights[p] = _mm512_xor_si512(load(values + p * apart * w.quads * 64), flip);
      for (int c = 0; c < C; ++c) {
        const __m512i four = four_columns(columns + c * x.stride + 4 * quad);
        for (int p = 0; p < P; ++p) dot[p][c] = _mm512_dpbusd_epi32(dot[p][c], weights[p], four);
      }
    }
    for (int p = 0; p < P; ++p) {
      const __m512 scale = _mm512_loadu_ps(scales + (p * apart * w.segment_count + s) * kPanelRows);
      for (int c = 0; c < C; ++c) acc[p][c] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(dot[p][c]), acc[p][c]);
    }
  }
  store_tile(out, out_stride, acc, w.rows, panel, apart, x, b);
}

// ---- int4 -----------------------------------------------------------------------------------------

template <int P, int C>
void tile_q4(float* out, size_t out_stride, const Q4Panels& w, size_t panel, size_t apart, const Q8Rows& x, size_t b) {
  const __m512i nibble = _mm512_set1_epi8(15);
  const size_t sums_stride = x.stride / kGroupColumns;
  __m512 acc[P][C];
  for (auto& panels : acc)
    for (__m512& a : panels) a = _mm512_setzero_ps();
  const Q4Group* groups = w.groups + panel * w.group_count;
  const int8_t* columns = x.values + b * x.stride;
  for (size_t g = 0; g < w.group_count; ++g, ++groups, columns += kGroupColumns) {
    __m512i dot[P][C];
    for (auto& panels : dot)
      for (__m512i& d : panels) d = _mm512_setzero_si512();
    for (size_t i = 0; i < 4; ++i) {
      __m512i low[P], high[P];
      for (int p = 0; p < P; ++p) {
        const __m512i two = load(groups[p * apart * w.group_count].values[i]);
        low[p] = _mm512_and_si512(two, nibble);
        high[p] = _mm512_and_si512(_mm512_srli_epi16(two, 4), nibble);
      }
      for (int c = 0; c < C; ++c) {
        const int8_t* xs = columns + c * x.stride + 8 * i;
        const __m512i first = four_columns(xs), second = four_columns(xs + 4);
        for (int p = 0; p < P; ++p)
          dot[p][c] = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(dot[p][c], low[p], first), high[p], second);
      }
    }
    for (int p = 0; p < P; ++p) {
      const Q4Group& group = groups[p * apart * w.group_count];
      const __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(group.scales)));
      const __m512i zeros = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(group.zeros)));
      const __m512 shift = _mm512_mul_ps(_mm512_cvtepi32_ps(zeros), _mm512_set1_ps(0.0625f));
      for (int c = 0; c < C; ++c) {
        const __m512 sum = _mm512_set1_ps(x.sums[(b + c) * sums_stride + g]);
        acc[p][c] = _mm512_fmadd_ps(scale, _mm512_fnmadd_ps(shift, sum, _mm512_cvtepi32_ps(dot[p][c])), acc[p][c]);
      }
    }
  }
  store_tile(out, out_stride, acc, w.rows, panel, apart, x, b);
}

// ---- all panels and all columns -------------------------------------------------------------------

// Tiles of one, two and four panels, by the number of columns.
#define TINYZH_TILES(name, panels) \
  {nullptr,         name<panels, 1>, name<panels, 2>, name<panels, 3>,  name<panels, 4>,  name<panels, 5>, name<panels, 6>, \
   name<panels, 7>, name<panels, 8>, name<panels, 9>, name<panels, 10>, name<panels, 11>, name<panels, 12>}
template <class W>
struct Tiles {
  using Tile = void (*)(float*, size_t, const W&, size_t panel, size_t apart, const Q8Rows&, size_t b);
  Tile one[13], two[13], four[5];
};
constexpr Tiles<Q8Panels> kQ8Tiles = {TINYZH_TILES(tile_q8, 1), TINYZH_TILES(tile_q8, 2),
                                      {nullptr, tile_q8<4, 1>, tile_q8<4, 2>, tile_q8<4, 3>, tile_q8<4, 4>}};
constexpr Tiles<Q4Panels> kQ4Tiles = {TINYZH_TILES(tile_q4, 1), TINYZH_TILES(tile_q4, 2),
                                      {nullptr, tile_q4<4, 1>, tile_q4<4, 2>, tile_q4<4, 3>, tile_q4<4, 4>}};
#undef TINYZH_TILES

// Few columns: memory is the limit, and panels far apart are so many streams of it.  Many: one panel, which
// stays in the first cache beside a group of columns while all of them pass by.
template <class W>
void matmul(const Tiles<W>& tiles, float* out, size_t out_stride, const W& w, const Q8Rows& x, size_t batch) {
  const size_t panels = (w.rows + kPanelRows - 1) / kPanelRows;
  const size_t together = batch <= 4 ? 4 : batch <= 24 ? 2 : 1, most = batch <= 4 ? 4 : 12;
  const auto tile = batch <= 4 ? tiles.four : batch <= 24 ? tiles.two : tiles.one;
  const size_t groups = (batch + most - 1) / most, apart = panels / together;
  for (size_t p = 0; p < panels; ++p) {
    if (p == apart) p = apart * together;  // what the groups of panels left
    if (p == panels) break;
    for (size_t i = 0; i < groups; ++i) {  // of nearly equal size
      const size_t first = batch * i / groups, last = batch * (i + 1) / groups;
      (p < apart ? tile : tiles.one)[last - first](out, out_stride, w, p, apart, x, first);
    }
  }
}

void matmul_q8(float* out, size_t out_stride, const Q8Panels& w, const Q8Rows& x, size_t batch) {
  matmul(kQ8Tiles, out, out_stride, w, x, batch);
}

void matmul_q4(float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, size_t batch) {
  matmul(kQ4Tiles, out, out_stride, w, x, batch);
}

}  // namespace

constinit const Kernels kAvx512Kernels = G::table("avx512", matmul_q8, matmul_q4);

}  // namespace tinyzh
#endif
