// Eight floats in one AVX2 register.  Operation for operation what lanes_scalar.h says.
// Each file that is compiled for an instruction set gives it a namespace of its own, TINYZH_ISA_NAMESPACE,
// so that the linker never takes the code of one set for that of another.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace tinyzh::TINYZH_ISA_NAMESPACE {

// Row 8 - n, read as 32-bit masks, has its first n lanes set.
alignas(64) inline constexpr int32_t kMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

inline __m256i first_lanes(size_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMask + 8 - n));
}

struct Lanes {
#if defined(__AVX512VL__)
  static constexpr int kRegisters = 32;
#else
  static constexpr int kRegisters = 16;
#endif
  __m256 v;

  static Lanes splat(float x) { return {_mm256_set1_ps(x)}; }
  static Lanes load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Lanes load(const uint16_t* p) {  // fp16
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static Lanes load(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  static Lanes load(const float* p, size_t n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_half(uint16_t* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  void store(float* p, size_t n) const { _mm256_maskstore_ps(p, first_lanes(n), v); }

  static Lanes pow2_of_magic(Lanes t) {
    const __m256i n = _mm256_add_epi32(_mm256_castps_si256(t.v), _mm256_set1_epi32(127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(n, 23))};
  }
  static Lanes abs_max(Lanes a, Lanes so_far) {
    const __m256i m = _mm256_and_si256(_mm256_castps_si256(a.v), _mm256_set1_epi32(0x7fffffff));
    return {_mm256_castsi256_ps(_mm256_max_epi32(m, _mm256_castps_si256(so_far.v)))};
  }
  static float largest_bits(Lanes a) {
    const __m256i m = _mm256_castps_si256(a.v);
    __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4E));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0xB1));
    return _mm_cvtss_f32(_mm_castsi128_ps(h));
  }
  static void store_int8_of_magic(Lanes t, int8_t* q, size_t n) {
    // The low byte of each 32-bit lane, gathered to the front of each half.
    const __m256i pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                          0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i b = _mm256_shuffle_epi8(_mm256_castps_si256(t.v), pick);
    const __m128i both = _mm_unpacklo_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
    alignas(16) int8_t out[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(out), both);
    if (n == 8) {
      _mm_storel_epi64(reinterpret_cast<__m128i*>(q), both);
    } else {
      for (size_t i = 0; i < n; ++i) q[i] = out[i];
    }
  }
  static Lanes rotate_pairs(Lanes a, const float* cos, const float* sin, size_t pairs) {
    const __m128i mask = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kMask + 8 - pairs));
    const __m128 c4 = _mm_maskload_ps(cos, mask), s4 = _mm_maskload_ps(sin, mask);
    const __m256 c = _mm256_set_m128(_mm_unpackhi_ps(c4, c4), _mm_unpacklo_ps(c4, c4));
    const __m256 s = _mm256_set_m128(_mm_unpackhi_ps(s4, s4), _mm_unpacklo_ps(s4, s4));
    const __m256 swapped = _mm256_permute_ps(a.v, 0xB1);                     // y x y x ...
    const __m256 signs = _mm256_setr_ps(-0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f, 0);
    return {_mm256_fmadd_ps(a.v, c, _mm256_xor_ps(_mm256_mul_ps(swapped, s), signs))};
  }
};

inline Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Lanes max(Lanes a, Lanes b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Lanes min(Lanes a, Lanes b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Lanes fma(Lanes a, Lanes b, Lanes c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Lanes keep_from(Lanes x, float limit, Lanes value) {
  return {_mm256_andnot_ps(_mm256_cmp_ps(x.v, _mm256_set1_ps(limit), _CMP_LT_OQ), value.v)};
}
inline float sum(Lanes a) {
  const __m256 pairs = _mm256_hadd_ps(a.v, a.v);
  const __m256 fours = _mm256_hadd_ps(pairs, pairs);
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(fours), _mm256_extractf128_ps(fours, 1)));
}
inline float maximum(Lanes a) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

}  // namespace tinyzh::TINYZH_ISA_NAMESPACE
