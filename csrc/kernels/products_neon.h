// int8 and int4 products for 64-bit Arm, but for the one step in which its instruction sets differ.  Each file
// that includes this brings that step:
//
//   template <int C> struct Dots      integer sums of the sixteen rows of a panel with C columns, from zero
//     void add(int j, int8x16_t first, int8x16_t second, const int8x8_t (&x)[C])
//                                     to rows 4j ... 4j + 3: four columns of weights in `first` with the low
//                                     half of x, four more in `second` with the high half
//     int32x4_t of(int j, int c)      the sums of rows 4j ... 4j + 3 with column c
//
// Written for 32 registers by counting them; the speed of none of this has been measured.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"

namespace tinyzh::TINYZH_ISA_NAMESPACE {

inline constexpr int kFours = kPanelRows / 4;  // registers of four rows in a panel

template <template <int> class Dots>
struct Products {
  // Floats of the sixteen rows of a panel for each of C columns.
  template <int C>
  struct Results {
    float32x4_t acc[kFours][C];

    Results() {
      for (auto& four : acc)
        for (float32x4_t& a : four) a = vdupq_n_f32(0);
    }
    // The sixteen results of a column, or the first of them.
    void store(float* out, size_t out_stride, const Q8Rows& x, size_t b, size_t rows) const {
      for (int c = 0; c < C; ++c) {
        float results[kPanelRows];
        float* to = out + c * out_stride;
        float* all = rows >= kPanelRows ? to : results;
        for (int j = 0; j < kFours; ++j) vst1q_f32(all + 4 * j, vmulq_n_f32(acc[j][c], x.scales[b + c]));
        if (rows < kPanelRows) std::memcpy(to, results, rows * sizeof(float));
      }
    }
  };

  // ---- int8 ---------------------------------------------------------------------------------------

  // P panels, `apart` from each other, times C columns.
  template <int P, int C>
  static void tile(float* out, size_t out_stride, const Q8Panels& w, size_t panel, size_t apart, const Q8Rows& x,
                   size_t b) {
    const int8_t* values = w.values + panel * w.quads * 64;
    const float* scales = w.scales + panel * w.segment_count * kPanelRows;
    const int8_t* columns = x.values + b * x.stride;
    Results<C> results[P];
    for (size_t s = 0; s < w.segment_count; ++s, scales += kPanelRows) {
      Dots<C> dots[P];
      const size_t end = w.segments[s].end_quad;
      int8x8_t xs[C];
      size_t quad = w.segments[s].first_quad;
      for (; quad + 2 <= end; quad += 2, values += 128) {
        for (int c = 0; c < C; ++c) xs[c] = vld1_s8(columns + c * x.stride + 4 * quad);
        for (int p = 0; p < P; ++p)
          for (int j = 0; j < kFours; ++j) {
            const int8_t* first = values + p * apart * w.quads * 64 + 16 * j;
            dots[p].add(j, vld1q_s8(first), vld1q_s8(first + 64), xs);
          }
      }
      if (quad < end) {  // the odd one
        for (int c = 0; c < C; ++c) {
          uint32_t four;
          std::memcpy(&four, columns + c * x.stride + 4 * quad, 4);
          xs[c] = vcreate_s8(four);
        }
        for (int p = 0; p < P; ++p)
          for (int j = 0; j < kFours; ++j)
            dots[p].add(j, vld1q_s8(values + p * apart * w.quads * 64 + 16 * j), vdupq_n_s8(0), xs);
        values += 64;
      }
      for (int p = 0; p < P; ++p)
        for (int j = 0; j < kFours; ++j) {
          const float32x4_t scale = vld1q_f32(scales + p * apart * w.segment_count * kPanelRows + 4 * j);
          for (int c = 0; c < C; ++c)
            results[p].acc[j][c] = vfmaq_f32(results[p].acc[j][c], scale, vcvtq_f32_s32(dots[p].of(j, c)));
        }
    }
    for (int p = 0; p < P; ++p) {
      const size_t first = (panel + p * apart) * kPanelRows;
      results[p].store(out + b * out_stride + first, out_stride, x, b, w.rows - first);
    }
  }

  // ---- int4 ---------------------------------------------------------------------------------------

  // Values are 0 ... 15: signed bytes like any others.
  template <int P, int C>
  static void tile(float* out, size_t out_stride, const Q4Panels& w, size_t panel, size_t apart, const Q8Rows& x,
                   size_t b) {
    const size_t sums_stride = x.stride / kGroupColumns;
    const int8_t* columns = x.values + b * x.stride;
    Results<C> results[P];
    for (size_t g = 0; g < w.group_count; ++g, columns += kGroupColumns) {
      const Q4Group* groups[P];
      for (int p = 0; p < P; ++p) groups[p] = w.groups + (panel + p * apart) * w.group_count + g;
      Dots<C> dots[P];
      for (size_t i = 0; i < 4; ++i) {
        int8x8_t xs[C];
        for (int c = 0; c < C; ++c) xs[c] = vld1_s8(columns + c * x.stride + 8 * i);
        for (int p = 0; p < P; ++p)
          for (int j = 0; j < kFours; ++j) {
            const uint8x16_t two = vld1q_u8(groups[p]->values[i][4 * j]);
            const int8x16_t first = vreinterpretq_s8_u8(vandq_u8(two, vdupq_n_u8(15)));
            dots[p].add(j, first, vreinterpretq_s8_u8(vshrq_n_u8(two, 4)), xs);
          }
      }
      for (int p = 0; p < P; ++p) {
        const uint8x16_t zeros = vld1q_u8(groups[p]->zeros);
        const uint16x8_t wide[2] = {vmovl_u8(vget_low_u8(zeros)), vmovl_high_u8(zeros)};
        for (int j = 0; j < kFours; ++j) {
          const uint32x4_t four = j % 2 ? vmovl_high_u16(wide[j / 2]) : vmovl_u16(vget_low_u16(wide[j / 2]));
          const float32x4_t shift = vmulq_n_f32(vcvtq_f32_u32(four), 0.0625f);
          const float32x4_t scale = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(groups[p]->scales + 4 * j)));
          for (int c = 0; c < C; ++c) {
            const float32x4_t sum = vdupq_n_f32(x.sums[(b + c) * sums_stride + g]);
            const float32x4_t dot = vcvtq_f32_s32(dots[p].of(j, c));
            results[p].acc[j][c] = vfmaq_f32(results[p].acc[j][c], scale, vfmsq_f32(dot, shift, sum));
          }
        }
      }
    }
    for (int p = 0; p < P; ++p) {
      const size_t first = (panel + p * apart) * kPanelRows;
      results[p].store(out + b * out_stride + first, out_stride, x, b, w.rows - first);
    }
  }

  // ---- all panels and all columns -----------------------------------------------------------------

  template <class W>
  static void matmul(float* out, size_t out_stride, const W& w, const Q8Rows& x, size_t batch) {
    const size_t panels = (w.rows + kPanelRows - 1) / kPanelRows;
    if (batch == 1) {  // memory is the limit: two panels far apart are two streams of it
      const size_t apart = panels / 2;
      for (size_t p = 0; p < apart; ++p) tile<2, 1>(out, out_stride, w, p, apart, x, 0);
      if (panels % 2) tile<1, 1>(out, out_stride, w, panels - 1, 0, x, 0);
      return;
    }
    for (size_t p = 0; p < panels; ++p) {
      size_t b = 0;
      for (; b + 4 <= batch; b += 4) tile<1, 4>(out, out_stride, w, p, 0, x, b);  // 16 registers of sums
      switch (batch - b) {
        case 3: tile<1, 3>(out, out_stride, w, p, 0, x, b); break;
        case 2: tile<1, 2>(out, out_stride, w, p, 0, x, b); break;
        case 1: tile<1, 1>(out, out_stride, w, p, 0, x, b); break;
      }
    }
  }
};

}  // namespace tinyzh::TINYZH_ISA_NAMESPACE
