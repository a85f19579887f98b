// NEON with the dot-product instructions (Armv8.2 FEAT_DotProd: Cortex-A55, A76, Neoverse N1, Apple A11 and
// later).  The whole file is compiled for these; nothing in it runs unless the processor has them.  Its speed
// has not been measured.
#if defined(__aarch64__)
#define TINYZH_ISA_NAMESPACE dotprod
#include "kernels/lanes_neon.h"

#include "kernels/generic.h"
#include "kernels/products_neon.h"

namespace tinyzh {
namespace {

using G = Generic<dotprod::Lanes>;

template <int C>
struct Dots {
  int32x4_t sums[dotprod::kFours][C];

  Dots() {
    for (auto& four : sums)
      for (int32x4_t& s : four) s = vdupq_n_s32(0);
  }
  void add(int j, int8x16_t first, int8x16_t second, const int8x8_t (&x)[C]) {
    for (int c = 0; c < C; ++c)
      sums[j][c] = vdotq_lane_s32(vdotq_lane_s32(sums[j][c], first, x[c], 0), second, x[c], 1);
  }
  int32x4_t of(int j, int c) const { return sums[j][c]; }
};

using P = dotprod::Products<Dots>;

}  // namespace

constinit const Kernels kDotprodKernels = G::table("dotprod", P::matmul<Q8Panels>, P::matmul<Q4Panels>);

}  // namespace tinyzh
#endif
