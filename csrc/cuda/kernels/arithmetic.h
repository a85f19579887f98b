// What the kernels share: small arithmetic with the bits of the CPU's kernels, and what the threads of a warp or of a
// block do together.
//
// Compiled without contraction (-fmad=false): multiply-adds are fused where it is written.
#pragma once

#include <cstring>

#include "cuda/device.h"
#include "cuda/launch.h"

namespace tinyzh::cuda {

inline constexpr unsigned kThreads = 128;  // of a block
inline constexpr unsigned kWarps = kThreads / kWarp;
inline constexpr unsigned kLanes = 8;      // of a sum, where its order is that of kernels/kernels.h
inline constexpr unsigned kAll = 0xffffffffu;
inline constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, half to even

// ---- bits --------------------------------------------------------------------------------------

TINYZH_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
TINYZH_DEVICE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
// Neighbouring numbers, aligned together, in one load.
struct alignas(8) Words2 {
  uint32_t word[2];
};
struct alignas(16) Words4 {
  uint32_t word[4];
};
template <class Words, class T>
TINYZH_DEVICE Words load_as(const T* from) {
#ifdef __CUDA_ARCH__
  return *reinterpret_cast<const Words*>(from);
#else
  Words words;
  memcpy(&words, from, sizeof words);
  return words;
#endif
}

// ---- sixteen bits, rounded half to even as base/half.h does; a GPU has instructions for it ---------

TINYZH_DEVICE float float_of_half(uint16_t half) {
#ifdef __CUDA_ARCH__
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(half));
  return wide;
#else
  const uint32_t exponent = half >> 10 & 31u, fraction = half & 0x3ffu, sign = static_cast<uint32_t>(half >> 15) << 31;
  if (exponent == 31) return float_of(sign | 0x7f800000u | (fraction ? 0x400000u : 0u) | fraction << 13);
  if (exponent > 0) return float_of(sign | (exponent + 112u) << 23 | fraction << 13);
  const float small = static_cast<float>(fraction) * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -small : small;
#endif
}
TINYZH_DEVICE uint16_t half_of_float(float x) {
#ifdef __CUDA_ARCH__
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
#else
  const uint32_t bits = bits_of(x), magnitude = bits & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u)
    return static_cast<uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u));
  return static_cast<uint16_t>(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
#endif
}

// What 16 bits stand for, and the nearest to a number.
TINYZH_DEVICE float widened(Float16, uint16_t x) { return float_of_half(x); }
TINYZH_DEVICE float widened(Bfloat16, uint16_t x) { return float_of(static_cast<uint32_t>(x) << 16); }
TINYZH_DEVICE uint16_t narrowed(Precision type, float x) {
  if (type == Precision::float16) return half_of_float(x);
  const uint32_t bits = bits_of(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);  // stays a NaN
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// ---- functions ---------------------------------------------------------------------------------

// e^x, as kernels/generic.h has it.
TINYZH_DEVICE float exp_of(float x) {
  constexpr float kLowest = -87.3f, kHighest = 88.3f;
  const float above = kLowest > x ? kLowest : x;           // a NaN passes
  const float inside = kHighest < above ? kHighest : above;
  const float t = fmaf(inside, 1.44269504088896341f, kMagic);
  const float n = t - kMagic;
  float r = fmaf(n, -0.693359375f, inside);
  r = fmaf(n, 2.12194440e-4f, r);
  float p = 0.0013814539416f;
  p = fmaf(p, r, 0.0083687454462f);
  p = fmaf(p, r, 0.041668388993f);
  p = fmaf(p, r, 0.16666521132f);
  p = fmaf(p, r, 0.49999994040f);
  p = fmaf(p, r, 1.0f);
  p = fmaf(p, r, 1.0f);
  return x < kLowest ? 0.0f : p * float_of((bits_of(t) + 127u) << 23);
}

// gate * sigmoid(gate) * up
TINYZH_DEVICE float gated(float gate, float up) { return gate / (1.0f + exp_of(0.0f - gate)) * up; }

// int8 with one scale, as quantise_row of kernels/kernels.h: of numbers whose largest magnitude has the bits `most`.
struct Int8 {
  float inverse, scale;
};
TINYZH_DEVICE Int8 int8_of(uint32_t most) {
  const float largest = float_of(most);
  const bool zero = largest < 1e-35f;
  return {zero ? 0.0f : 127.0f / largest, zero ? 0.0f : largest / 127.0f};
}
TINYZH_DEVICE int8_t rounded(float x, const Int8& to) { return static_cast<int8_t>(bits_of(x * to.inverse + kMagic)); }
TINYZH_DEVICE uint32_t magnitude(float x) { return bits_of(x) & 0x7fffffffu; }  // of a NaN the largest of all

// ---- together ----------------------------------------------------------------------------------

TINYZH_DEVICE unsigned lane_of_thread() { return threadIdx.x % kWarp; }
TINYZH_DEVICE unsigned warp_of_thread() { return threadIdx.x / kWarp; }

// ((0+1)+(2+3)) + ((4+5)+(6+7)) ... of `lanes` neighbouring threads, in each of them; all of a warp take part.
TINYZH_DEVICE float sum_of_lanes(float x, unsigned lanes = kLanes) {
  for (unsigned step = 1; step < lanes; step *= 2) x = x + __shfl_xor_sync(kAll, x, step);
  return x;
}
TINYZH_DEVICE int sum_of_warp(int x) {
  for (unsigned step = kWarp / 2; step > 0; step /= 2) x = x + __shfl_xor_sync(kAll, x, step);
  return x;
}
template <class T>
TINYZH_DEVICE T most_of_warp(T x) {
  for (unsigned step = kWarp / 2; step > 0; step /= 2) {
    const T other = __shfl_xor_sync(kAll, x, step);
    x = other > x ? other : x;
  }
  return x;
}

// A number that another block wrote before it arrived: not out of a cache of this processor's own.
TINYZH_DEVICE float fresh(const float* from) {
#ifdef __CUDA_ARCH__
  return __ldcg(from);
#else
  return *from;
#endif
}

}  // namespace tinyzh::cuda
