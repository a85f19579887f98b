// Eight floats in two NEON registers.  Operation for operation what lanes_scalar.h says.
// Each file that is compiled for an instruction set gives it a namespace of its own, TINYZH_ISA_NAMESPACE,
// so that the linker never takes the code of one set for that of another.
#pragma once

#include <arm_neon.h>

#include <bit>
#include <cstddef>
#include <cstdint>

namespace tinyzh::TINYZH_ISA_NAMESPACE {

struct Lanes {
  static constexpr int kRegisters = 16;  // pairs of them
  float32x4_t low, high;

  static Lanes splat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
  static Lanes load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
  static Lanes load(const uint16_t* p) {  // fp16
    const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(p));
    return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
  }
  static Lanes load(const int8_t* p) {
    const int16x8_t wide = vmovl_s8(vld1_s8(p));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), vcvtq_f32_s32(vmovl_high_s16(wide))};
  }
  static Lanes load(const float* p, size_t n) {  // the first n < 8, then zeros
    float lanes[8] = {};
    for (size_t i = 0; i < n; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  void store(float* p) const {
    vst1q_f32(p, low);
    vst1q_f32(p + 4, high);
  }
  void store_half(uint16_t* p) const {
    vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(low), high)));
  }
  void store(float* p, size_t n) const {
    float lanes[8];
    store(lanes);
    for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
  }

  static float32x4_t pow2_of_magic(float32x4_t t) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vaddq_u32(vreinterpretq_u32_f32(t), vdupq_n_u32(127)), 23));
  }
  static Lanes pow2_of_magic(Lanes t) { return {pow2_of_magic(t.low), pow2_of_magic(t.high)}; }
  static float32x4_t abs_max(float32x4_t a, float32x4_t so_far) {
    return vreinterpretq_f32_u32(vmaxq_u32(vreinterpretq_u32_f32(vabsq_f32(a)), vreinterpretq_u32_f32(so_far)));
  }
  static Lanes abs_max(Lanes a, Lanes so_far) { return {abs_max(a.low, so_far.low), abs_max(a.high, so_far.high)}; }
  static float largest_bits(Lanes a) {
    return std::bit_cast<float>(vmaxvq_u32(vmaxq_u32(vreinterpretq_u32_f32(a.low), vreinterpretq_u32_f32(a.high))));
  }
  static void store_int8_of_magic(Lanes t, int8_t* q, size_t n) {
    const int16x4_t low = vmovn_s32(vreinterpretq_s32_f32(t.low)), high = vmovn_s32(vreinterpretq_s32_f32(t.high));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(low, high));
    if (n == 8) {
      vst1_s8(q, bytes);
    } else {
      int8_t lanes[8];
      vst1_s8(lanes, bytes);
      for (size_t i = 0; i < n; ++i) q[i] = lanes[i];
    }
  }
  static Lanes rotate_pairs(Lanes a, const float* cos, const float* sin, size_t pairs) {
    float lanes[8] = {};
    for (size_t i = 0; i < pairs; ++i) lanes[i] = cos[i], lanes[4 + i] = sin[i];
    const float32x4_t c = vld1q_f32(lanes), s = vld1q_f32(lanes + 4);
    const auto rotate = [](float32x4_t xy, float32x4_t cc, float32x4_t ss) {
      const uint32x4_t minus = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000u));  // in the first lane of each pair
      const uint32x4_t crossed = vreinterpretq_u32_f32(vmulq_f32(vrev64q_f32(xy), ss));
      return vfmaq_f32(vreinterpretq_f32_u32(veorq_u32(crossed, minus)), xy, cc);
    };
    return {rotate(a.low, vzip1q_f32(c, c), vzip1q_f32(s, s)), rotate(a.high, vzip2q_f32(c, c), vzip2q_f32(s, s))};
  }
};

inline Lanes operator+(Lanes a, Lanes b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
// By comparison, not by fmax and fmin: b where either is not a number.
inline Lanes max(Lanes a, Lanes b) {
  return {vbslq_f32(vcgtq_f32(a.low, b.low), a.low, b.low), vbslq_f32(vcgtq_f32(a.high, b.high), a.high, b.high)};
}
inline Lanes min(Lanes a, Lanes b) {
  return {vbslq_f32(vcltq_f32(a.low, b.low), a.low, b.low), vbslq_f32(vcltq_f32(a.high, b.high), a.high, b.high)};
}
inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
inline Lanes keep_from(Lanes x, float limit, Lanes value) {
  const float32x4_t limits = vdupq_n_f32(limit);
  const auto keep = [limits](float32x4_t a, float32x4_t kept) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(kept), vcltq_f32(a, limits)));
  };
  return {keep(x.low, value.low), keep(x.high, value.high)};
}
inline float sum(Lanes a) {
  const float32x4_t pairs = vpaddq_f32(a.low, a.high), fours = vpaddq_f32(pairs, pairs);
  return vgetq_lane_f32(fours, 0) + vgetq_lane_f32(fours, 1);
}
inline float maximum(Lanes a) { return vmaxvq_f32(vmaxq_f32(a.low, a.high)); }  // of numbers

}  // namespace tinyzh::TINYZH_ISA_NAMESPACE
