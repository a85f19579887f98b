// Floating-point settings as game engines leave them, for the length of a scope.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tinyzh::testing {

#if defined(__x86_64__)
inline uint64_t floating_point_word() { return _mm_getcsr(); }
inline void set_floating_point_word(uint64_t word) { _mm_setcsr(static_cast<unsigned>(word)); }
inline constexpr uint64_t kFlush = 0x8040, kUp = 0x4000, kDown = 0x2000, kTruncate = 0x6000;
#elif defined(__aarch64__)
inline uint64_t floating_point_word() {
  uint64_t word;
  asm volatile("mrs %0, fpcr" : "=r"(word));
  return word;
}
inline void set_floating_point_word(uint64_t word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
inline constexpr uint64_t kFlush = 1u << 24, kUp = 1u << 22, kDown = 2u << 22, kTruncate = 3u << 22;
#endif

struct Unusual {
  std::string name;
  uint64_t bits;
};
inline std::vector<Unusual> unusual_settings() {
  return {{"flush to zero", kFlush}, {"round up", kUp}, {"round down", kDown}, {"truncate", kTruncate},
          {"flush to zero, round up", kFlush | kUp}};
}

class UnusualFloatingPoint {
 public:
  explicit UnusualFloatingPoint(const Unusual& setting) : saved_(floating_point_word()) {
    set_floating_point_word(saved_ | setting.bits);
  }
  ~UnusualFloatingPoint() { set_floating_point_word(saved_); }
  UnusualFloatingPoint(const UnusualFloatingPoint&) = delete;
  UnusualFloatingPoint& operator=(const UnusualFloatingPoint&) = delete;

 private:
  uint64_t saved_;
};

}  // namespace tinyzh::testing
