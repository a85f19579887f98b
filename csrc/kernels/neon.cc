// NEON as every 64-bit Arm processor has it.  Its speed has not been measured.
#if defined(__aarch64__)
#define TINYZH_ISA_NAMESPACE neon
#include "kernels/lanes_neon.h"

#include "kernels/generic.h"
#include "kernels/products_neon.h"

namespace tinyzh {
namespace {

using G = Generic<neon::Lanes>;

// Bytes are multiplied to 16 bits; pair sums (at most 2 * 128 * 127 = 32512) still fit, fours are added to 32.
template <int C>
struct Dots {
  int32x4_t sums[neon::kFours][C];

  Dots() {
    for (auto& four : sums)
      for (int32x4_t& s : four) s = vdupq_n_s32(0);
  }
  static int32x4_t dot(int32x4_t sum, int8x16_t w, int32x4_t x) {
    const int8x16_t four = vreinterpretq_s8_s32(x);
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(four)), high = vmull_high_s8(w, four);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
  }
  void add(int j, int8x16_t first, int8x16_t second, const int8x8_t (&x)[C]) {
    for (int c = 0; c < C; ++c) {
      const int32x2_t eight = vreinterpret_s32_s8(x[c]);
      sums[j][c] = dot(dot(sums[j][c], first, vdupq_lane_s32(eight, 0)), second, vdupq_lane_s32(eight, 1));
    }
  }
  int32x4_t of(int j, int c) const { return sums[j][c]; }
};

using P = neon::Products<Dots>;

}  // namespace

constinit const Kernels kNeonKernels = G::table("neon", P::matmul<Q8Panels>, P::matmul<Q4Panels>);

}  // namespace tinyzh
#endif
