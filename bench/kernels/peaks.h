// What this processor could do at most: loops that touch registers only, and one that only reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace tinyzh::bench {

// A loop of multiply-adds and its operations (a multiplication and an addition each count) in one call;
// run is null where no such loop is written.
struct Peak {
  void (*run)() = nullptr;
  double operations = 0;
};

inline constexpr size_t kRounds = 100000;
inline constexpr size_t kChains = 12;  // independent sums: more than latency times units

// The empty asm statements make the compiler believe that a register changes or is needed there, so that
// nothing is moved out of a loop, and that the sums differ, or it would compute one of them only.
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) inline void fma_avx2() {
  __m256 sum[kChains] = {}, a = _mm256_set1_ps(1), b = _mm256_set1_ps(0.5f);
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : "+x"(sum[c]));
  for (size_t i = 0; i < kRounds; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (size_t c = 0; c < kChains; ++c) sum[c] = _mm256_fmadd_ps(a, b, sum[c]);
  }
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : : "x"(sum[c]));
}

// Two instructions multiply and add pairs, a third adds: what AVX2 has for int8.
__attribute__((target("avx2,fma"))) inline void int8_avx2() {
  __m256i sum[kChains] = {}, a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  const __m256i one = _mm256_set1_epi16(1);
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : "+x"(sum[c]));
  for (size_t i = 0; i < kRounds; ++i)
#pragma GCC unroll 12
    for (size_t c = 0; c < kChains; ++c) {
      asm volatile("" : "+x"(a));
      sum[c] = _mm256_add_epi32(sum[c], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), one));
    }
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : : "x"(sum[c]));
}

__attribute__((target("avx512f"))) inline void fma_avx512() {
  __m512 sum[kChains] = {}, a = _mm512_set1_ps(1), b = _mm512_set1_ps(0.5f);
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : "+v"(sum[c]));
  for (size_t i = 0; i < kRounds; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 12
    for (size_t c = 0; c < kChains; ++c) sum[c] = _mm512_fmadd_ps(a, b, sum[c]);
  }
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : : "v"(sum[c]));
}

__attribute__((target("avx512f,avx512vnni"))) inline void int8_avx512() {
  __m512i sum[kChains] = {}, a = _mm512_set1_epi32(0x01010101), b = _mm512_set1_epi32(0x02020202);
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : "+v"(sum[c]));
  for (size_t i = 0; i < kRounds; ++i) {
    asm volatile("" : "+v"(a), "+v"(b));
#pragma GCC unroll 12
    for (size_t c = 0; c < kChains; ++c) sum[c] = _mm512_dpbusd_epi32(sum[c], a, b);
  }
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : : "v"(sum[c]));
}
#elif defined(__aarch64__)
inline void fma_neon() {
  float32x4_t sum[kChains] = {}, a = vdupq_n_f32(1), b = vdupq_n_f32(0.5f);
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : "+w"(sum[c]));
  for (size_t i = 0; i < kRounds; ++i) {
    asm volatile("" : "+w"(a), "+w"(b));
#pragma GCC unroll 12
    for (size_t c = 0; c < kChains; ++c) sum[c] = vfmaq_f32(sum[c], a, b);
  }
#pragma GCC unroll 12
  for (size_t c = 0; c < kChains; ++c) asm volatile("" : : "w"(sum[c]));
}
#endif

inline Peak peak_of([[maybe_unused]] std::string_view isa, [[maybe_unused]] bool int8) {
  [[maybe_unused]] constexpr double steps = 2.0 * kRounds * kChains;
#if defined(__x86_64__)
  if (isa == "avx512") return int8 ? Peak{int8_avx512, 64 * steps} : Peak{fma_avx512, 16 * steps};
  if (isa == "avx2") return int8 ? Peak{int8_avx2, 32 * steps} : Peak{fma_avx2, 8 * steps};
#elif defined(__aarch64__)
  if (!int8 && isa != "scalar") return {fma_neon, 4 * steps};
#endif
  return {};
}

// Reads everything, as four streams far apart.
inline uint64_t read_all(std::span<const uint64_t> data) {
  const size_t quarter = data.size() / 4;
  uint64_t a = 0, b = 0, c = 0, d = 0;
  for (size_t i = 0; i < quarter; ++i) {
    a += data[i];
    b += data[i + quarter];
    c += data[i + 2 * quarter];
    d += data[i + 3 * quarter];
  }
  return a + b + c + d;
}

}  // namespace tinyzh::bench
