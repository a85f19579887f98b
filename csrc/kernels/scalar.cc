// The definition: what every other instruction set must reproduce bit for bit.  Where the processor has
// no fused multiply-add the compiler calls fmaf, which is slow; this is the oracle, not the product.
#include <cmath>

#include "kernels/generic.h"
#include "kernels/lanes_scalar.h"

namespace tinyzh {
namespace {

using G = Generic<scalar::Lanes>;

void matmul_q8(float* out, size_t out_stride, const Q8Panels& w, const Q8Rows& x, size_t batch) {
  for (size_t b = 0; b < batch; ++b) {
    const int8_t* xs = x.values + b * x.stride;
    for (size_t r = 0; r < w.rows; ++r) {
      const size_t panel = r / kPanelRows, lane = r % kPanelRows;
      const int8_t* four = w.values + (panel * w.quads * kPanelRows + lane) * 4;
      const float* scale = w.scales + panel * w.segment_count * kPanelRows + lane;
      float acc = 0;
      for (size_t s = 0; s < w.segment_count; ++s) {
        int32_t dot = 0;
        for (uint32_t quad = w.segments[s].first_quad; quad < w.segments[s].end_quad; ++quad, four += 4 * kPanelRows)
          for (int i = 0; i < 4; ++i) dot += int32_t{four[i]} * int32_t{xs[4 * quad + i]};
        acc = std::fma(scale[s * kPanelRows], static_cast<float>(dot), acc);
      }
      out[b * out_stride + r] = acc * x.scales[b];
    }
  }
}

void matmul_q4(float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, size_t batch) {
  for (size_t b = 0; b < batch; ++b) {
    for (size_t r = 0; r < w.rows; ++r) {
      const Q4Group* groups = w.groups + r / kPanelRows * w.group_count;
      const size_t lane = r % kPanelRows;
      float acc = 0;
      for (size_t g = 0; g < w.group_count; ++g) {
        const int8_t* xs = x.values + b * x.stride + g * kGroupColumns;
        int32_t dot = 0;
        for (size_t i = 0; i < 4; ++i)
          for (size_t k = 0; k < 4; ++k) {
            const int32_t two = groups[g].values[i][lane][k];
            dot += (two & 15) * xs[8 * i + k] + (two >> 4) * xs[8 * i + 4 + k];
          }
        const float shift = static_cast<float>(groups[g].zeros[lane]) * 0.0625f;
        const float sum = static_cast<float>(dot) - shift * x.sums[b * (x.stride / kGroupColumns) + g];  // exact
        acc = std::fma(from_half(groups[g].scales[lane]), sum, acc);
      }
      out[b * out_stride + r] = acc * x.scales[b];
    }
  }
}

}  // namespace

constinit const Kernels kScalarKernels = G::table("scalar", matmul_q8, matmul_q4);

}  // namespace tinyzh
