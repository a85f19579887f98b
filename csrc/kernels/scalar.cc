// The definition: what every other instruction set must reproduce bit for bit.  Where the processor has
// no fused multiply-add the compiler calls fmaf, which is slow; this is the oracle, not the product.
#include "kernels/generic.h"
#include <cmath>

#include "kernels/lanes_scalar.h"

namespace tinyzh {
namespace {

using G = Generic<scalar::Lanes>;

void panel_q8(float* out, const Q8Panel& panel, const int8_t* x, const float* x_scales, size_t x_stride,
              size_t batch) {
  for (size_t b = 0; b < batch; ++b, x += x_stride, out += 8) {
    const int8_t* w = panel.values;
    float acc[8] = {};
    for (size_t s = 0; s < panel.segment_count; ++s) {
      int32_t dot[8] = {};
      for (uint32_t quad = panel.segments[s].first_quad; quad < panel.segments[s].end_quad; ++quad)
        for (int row = 0; row < 8; ++row)
          for (int i = 0; i < 4; ++i, ++w) dot[row] += int32_t{*w} * int32_t{x[4 * quad + i]};
      for (int row = 0; row < 8; ++row)
        acc[row] = std::fma(panel.scales[8 * s + row], static_cast<float>(dot[row]), acc[row]);
    }
    for (int row = 0; row < 8; ++row) out[row] = acc[row] * x_scales[b];
  }
}

}  // namespace

const Kernels kScalarKernels = {
    "scalar",  G::matmul_f32, panel_q8, G::quantise_row, G::rmsnorm,
    G::swiglu, G::add,        G::rope,  G::attention,    G::exp_shifted,
};

}  // namespace tinyzh
