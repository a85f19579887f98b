// AVX2 with FMA and F16C.  The whole file is compiled for these; nothing in it runs unless the processor
// has them.
#if defined(__x86_64__)
#include "kernels/lanes_avx2.h"

#include <cstring>

#include "kernels/generic.h"

namespace tinyzh {
namespace {

using G = Generic<avx2::Lanes>;

// Eight rows times C columns.  Bytes are multiplied as |w| * (x with the sign of w): both factors then
// fit pmaddubsw, whose pair sums (at most 2 * 128 * 127 = 32512) cannot saturate.
template <int C>
inline void panel_columns(float* out, const Q8Panel& panel, const int8_t* x, const float* x_scales,
                          size_t x_stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  const int8_t* w = panel.values;
  __m256 acc[C];
  for (int c = 0; c < C; ++c) acc[c] = _mm256_setzero_ps();
  const Q8Segment* segments = panel.segments;
  for (size_t s = 0; s < panel.segment_count; ++s) {
    __m256i dot[C];
    for (int c = 0; c < C; ++c) dot[c] = _mm256_setzero_si256();
    for (size_t quad = segments[s].first_quad; quad < segments[s].end_quad; ++quad, w += 32) {
      const __m256i ws = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
      const __m256i magnitude = _mm256_abs_epi8(ws);
      for (int c = 0; c < C; ++c) {
        int32_t four;
        std::memcpy(&four, x + c * x_stride + 4 * quad, 4);
        const __m256i xs = _mm256_sign_epi8(_mm256_set1_epi32(four), ws);
        dot[c] = _mm256_add_epi32(dot[c], _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, xs), ones));
      }
    }
    const __m256 scale = _mm256_loadu_ps(panel.scales + 8 * s);
    for (int c = 0; c < C; ++c) acc[c] = _mm256_fmadd_ps(scale, _mm256_cvtepi32_ps(dot[c]), acc[c]);
  }
  for (int c = 0; c < C; ++c) _mm256_storeu_ps(out + 8 * c, _mm256_mul_ps(acc[c], _mm256_set1_ps(x_scales[c])));
}

void panel_q8(float* out, const Q8Panel& panel, const int8_t* x, const float* x_scales, size_t x_stride,
              size_t batch) {
  size_t b = 0;
  for (; b + 6 <= batch; b += 6) panel_columns<6>(out + 8 * b, panel, x + b * x_stride, x_scales + b, x_stride);
  for (; b + 3 <= batch; b += 3) panel_columns<3>(out + 8 * b, panel, x + b * x_stride, x_scales + b, x_stride);
  for (; b < batch; ++b) panel_columns<1>(out + 8 * b, panel, x + b * x_stride, x_scales + b, x_stride);
}

}  // namespace

const Kernels kAvx2Kernels = {
    "avx2",    G::matmul_f32, panel_q8, G::quantise_row, G::rmsnorm,
    G::swiglu, G::add,        G::rope,  G::attention,    G::exp_shifted,
};

}  // namespace tinyzh
#endif
