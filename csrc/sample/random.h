// The random numbers of llama2.c: xorshift64*, one state per request.
#pragma once

#include <cstdint>

namespace tinyzh {

class Random {
 public:
  // A state of 0 would stay 0 for ever, so the seed 0 stands for this one.
  static constexpr uint64_t kSeedForZero = 0x9E3779B97F4A7C15ull;

  explicit Random(uint64_t seed) : state_(seed ? seed : kSeedForZero) {}

  uint64_t state() const { return state_; }

  uint32_t next_u32() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1Dull) >> 32);
  }
  float next_float() { return static_cast<float>(next_u32() >> 8) / 16777216.0f; }  // [0, 1)

 private:
  uint64_t state_;
};

}  // namespace tinyzh
