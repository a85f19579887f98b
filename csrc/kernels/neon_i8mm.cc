// NEON with the matrix-multiply instructions (Armv8.6 FEAT_I8MM: Neoverse V1 and N2, Cortex-A510, Apple M2 and
// later).  The whole file is compiled for these and the dot product; nothing in it runs unless the processor
// has both.  Its speed has not been measured.
#if defined(__aarch64__)
#define TINYZH_ISA_NAMESPACE i8mm
#include "kernels/lanes_neon.h"

#include "kernels/generic.h"
#include "kernels/products_neon.h"

namespace tinyzh {
namespace {

using G = Generic<i8mm::Lanes>;

// smmla multiplies two rows of eight columns with two columns of x: twice the work of a dot product.
template <int C>
struct Dots {
  static constexpr int kPairs = (C + 1) / 2;
  int32x4_t sums[i8mm::kFours][2][kPairs];  // of two rows with two columns: r0 c0, r0 c1, r1 c0, r1 c1

  Dots() {
    for (auto& four : sums)
      for (auto& two : four)
        for (int32x4_t& s : two) s = vdupq_n_s32(0);
  }
  void add(int j, int8x16_t first, int8x16_t second, const int8x8_t (&x)[C]) {
    // Eight columns of a row side by side.
    const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);
    const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(a, b)), high = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    for (int i = 0; i < kPairs; ++i) {
      const int8x16_t two = vcombine_s8(x[2 * i], 2 * i + 1 < C ? x[(2 * i + 1) % C] : vdup_n_s8(0));
      sums[j][0][i] = vmmlaq_s32(sums[j][0][i], low, two);
      sums[j][1][i] = vmmlaq_s32(sums[j][1][i], high, two);
    }
  }
  int32x4_t of(int j, int c) const {
    const int32x4_t low = sums[j][0][c / 2], high = sums[j][1][c / 2];
    return c % 2 ? vuzp2q_s32(low, high) : vuzp1q_s32(low, high);
  }
};

// One column alone would leave half of each product unused.
template <>
struct Dots<1> {
  int32x4_t sums[i8mm::kFours];

  Dots() {
    for (int32x4_t& s : sums) s = vdupq_n_s32(0);
  }
  void add(int j, int8x16_t first, int8x16_t second, const int8x8_t (&x)[1]) {
    sums[j] = vdotq_lane_s32(vdotq_lane_s32(sums[j], first, x[0], 0), second, x[0], 1);
  }
  int32x4_t of(int j, int) const { return sums[j]; }
};

using P = i8mm::Products<Dots>;

}  // namespace

constinit const Kernels kI8mmKernels = G::table("i8mm", P::matmul<Q8Panels>, P::matmul<Q4Panels>);

}  // namespace tinyzh
#endif
