// Eight floats in plain C++: the definition that every vector type copies.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/half.h"

namespace tinyzh::scalar {

struct Lanes {
  static constexpr int kRegisters = 16;
  float v[8];

  static Lanes splat(float x) { return {{x, x, x, x, x, x, x, x}}; }
  static Lanes load(const float* p) {
    Lanes a;
    for (int i = 0; i < 8; ++i) a.v[i] = p[i];
    return a;
  }
  static Lanes load(const uint16_t* p) {  // fp16
    Lanes a;
    for (int i = 0; i < 8; ++i) a.v[i] = from_half(p[i]);
    return a;
  }
  static Lanes load(const int8_t* p) {
    Lanes a;
    for (int i = 0; i < 8; ++i) a.v[i] = static_cast<float>(p[i]);
    return a;
  }
  static Lanes load(const float* p, size_t n) {  // the first n < 8, then zeros
    Lanes a = splat(0);
    for (size_t i = 0; i < n; ++i) a.v[i] = p[i];
    return a;
  }
  void store(float* p) const {
    for (int i = 0; i < 8; ++i) p[i] = v[i];
  }
  void store_half(uint16_t* p) const {
    for (int i = 0; i < 8; ++i) p[i] = to_half(v[i]);
  }
  void store(float* p, size_t n) const {
    for (size_t i = 0; i < n; ++i) p[i] = v[i];
  }
  // 2^n for the integers that t = n + 1.5 * 2^23 carries in its low bits; n in [-126, 127].
  static Lanes pow2_of_magic(Lanes t) {
    for (float& x : t.v) x = std::bit_cast<float>((std::bit_cast<uint32_t>(x) + 127u) << 23);
    return t;
  }
  // Lane by lane the larger of |a| and `so_far`, which has no signs; compared as bits, so that a NaN is the
  // largest of all.
  static Lanes abs_max(Lanes a, Lanes so_far) {
    for (int i = 0; i < 8; ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(a.v[i]) & 0x7fffffffu;
      if (bits > std::bit_cast<uint32_t>(so_far.v[i])) so_far.v[i] = std::bit_cast<float>(bits);
    }
    return so_far;
  }
  // The largest of what abs_max gave.
  static float largest_bits(Lanes a) {
    uint32_t m = 0;
    for (float x : a.v) m = std::bit_cast<uint32_t>(x) > m ? std::bit_cast<uint32_t>(x) : m;
    return std::bit_cast<float>(m);
  }
  // Integers in the low bits of t = n + 1.5 * 2^23, as bytes.
  static void store_int8_of_magic(Lanes t, int8_t* q, size_t n) {
    for (size_t i = 0; i < n; ++i) q[i] = static_cast<int8_t>(std::bit_cast<uint32_t>(t.v[i]));
  }
  // Within each pair of lanes: (a0*c0 - a1*s0, a1*c0 + a0*s0), with cos and sin given once per pair.
  static Lanes rotate_pairs(Lanes a, const float* cos, const float* sin, size_t pairs) {
    Lanes out = a;
    for (size_t i = 0; i < pairs; ++i) {
      const float x = a.v[2 * i], y = a.v[2 * i + 1];
      out.v[2 * i] = std::fma(x, cos[i], -(y * sin[i]));
      out.v[2 * i + 1] = std::fma(y, cos[i], x * sin[i]);
    }
    return out;
  }
};

#define TINYZH_LANEWISE(name, expression)                       \
  inline Lanes name(Lanes a, Lanes b) {                         \
    for (int i = 0; i < 8; ++i) a.v[i] = (expression);          \
    return a;                                                   \
  }
TINYZH_LANEWISE(operator+, a.v[i] + b.v[i])
TINYZH_LANEWISE(operator-, a.v[i] - b.v[i])
TINYZH_LANEWISE(operator*, a.v[i] * b.v[i])
TINYZH_LANEWISE(operator/, a.v[i] / b.v[i])
TINYZH_LANEWISE(max, a.v[i] > b.v[i] ? a.v[i] : b.v[i])           // b where either is not a number
TINYZH_LANEWISE(min, a.v[i] < b.v[i] ? a.v[i] : b.v[i])           // b where either is not a number
#undef TINYZH_LANEWISE

inline Lanes fma(Lanes a, Lanes b, Lanes c) {
  for (int i = 0; i < 8; ++i) c.v[i] = std::fma(a.v[i], b.v[i], c.v[i]);
  return c;
}
// value where x >= limit, else +0; not-a-number keeps value.
inline Lanes keep_from(Lanes x, float limit, Lanes value) {
  for (int i = 0; i < 8; ++i) value.v[i] = x.v[i] < limit ? 0.0f : value.v[i];
  return value;
}
inline float sum(Lanes a) {
  return ((a.v[0] + a.v[1]) + (a.v[2] + a.v[3])) + ((a.v[4] + a.v[5]) + (a.v[6] + a.v[7]));
}
inline float maximum(Lanes a) {
  float m = a.v[0];
  for (int i = 1; i < 8; ++i) m = a.v[i] > m ? a.v[i] : m;
  return m;
}

}  // namespace tinyzh::scalar
