// Arithmetic as IEEE 754 means it: round to nearest, no flushing of subnormal numbers to zero.  Game
// engines often run with other settings; every entry that computes holds one of these.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tinyzh {

class StandardFloatingPoint {
 public:
  StandardFloatingPoint() : saved_(read()) {
    // Rounding control, flush-to-zero and denormals-are-zero off (and ARM's alternate handling); exceptions
    // masked.
#if defined(__x86_64__)
    write((saved_ & ~0xE040u) | 0x1F80u);
#else
    write(saved_ & ~((uint64_t{1} << 24) | (uint64_t{3} << 22) | 0x9F07u));
#endif
  }
  ~StandardFloatingPoint() { write(saved_); }
  StandardFloatingPoint(const StandardFloatingPoint&) = delete;
  StandardFloatingPoint& operator=(const StandardFloatingPoint&) = delete;

 private:
#if defined(__x86_64__)
  using Word = unsigned;
  static Word read() { return _mm_getcsr(); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__)
  using Word = uint64_t;
  static Word read() {
    Word word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { asm volatile("msr fpcr, %0" : : "r"(word)); }
#else
  using Word = uint64_t;
  static Word read() { return 0; }
  static void write(Word) {}
#endif
  Word saved_;
};

}  // namespace tinyzh
