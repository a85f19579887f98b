#include <doctest/doctest.h>

#include <vector>

#include "sample/random.h"

using namespace tinyzh;

TEST_CASE("random: the numbers of xorshift64*") {
  // Computed from the published recurrence with integers of any length.
  struct Known {
    uint64_t seed;
    std::vector<uint32_t> numbers;
  };
  for (const Known& known : {
           Known{1, {0x47e4ce4b, 0xabcfa6a8, 0xb9d10d8f}},
           Known{42, {0x56ce4ab7, 0xc841eb53, 0xca466be0}},
           Known{1234567890123456789u, {0x61040d35, 0x9ab676e5, 0x1d2e216f}},
           Known{UINT64_MAX, {0xf92cc9e5, 0x8ff484d8, 0x346c95f3}},
           Known{0x9E3779B97F4A7C15u, {0x0d83b3e2, 0x54c44c79, 0xa845f342}},
       }) {
    Random random(known.seed);
    for (const uint32_t number : known.numbers) CHECK(random.next_u32() == number);
  }
}

TEST_CASE("random: floats are the upper 24 bits, from 0 up to but not 1") {
  Random bits(5), floats(5);
  for (int i = 0; i < 10000; ++i) {
    const float x = floats.next_float();
    REQUIRE(x == static_cast<float>(bits.next_u32() >> 8) * 0x1p-24f);
    REQUIRE(x >= 0);
    REQUIRE(x < 1);
  }
}

TEST_CASE("random: seed 0 stands for the documented constant") {
  Random zero(0), constant(Random::kSeedForZero);
  for (int i = 0; i < 5; ++i) CHECK(zero.next_u32() == constant.next_u32());
}
