#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/half.h"

using namespace tinyzh;

namespace {

// The value by its definition.
double value_of(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const double size = exponent == 0    ? std::ldexp(fraction, -24)
                      : exponent == 31 ? (fraction ? std::nan("") : std::numeric_limits<double>::infinity())
                                       : std::ldexp(1024 + fraction, exponent - 25);
  return h & 0x8000 ? -size : size;
}

}  // namespace

TEST_CASE("half: widening is exact, and narrowing gives it back") {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float wide = from_half(static_cast<uint16_t>(h));
    const double expected = value_of(static_cast<uint16_t>(h));
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(wide));
      REQUIRE(std::isnan(from_half(to_half(wide))));
      continue;
    }
    REQUIRE(wide == expected);
    REQUIRE(std::signbit(wide) == (h >= 0x8000));
    REQUIRE(to_half(wide) == h);
  }
}

TEST_CASE("half: narrowing goes to the nearest, halfway to the even one") {
  for (uint32_t h = 0; h < 0x7BFF; ++h) {  // between each two neighbours
    const float low = from_half(static_cast<uint16_t>(h)), high = from_half(static_cast<uint16_t>(h + 1));
    const float middle = low + (high - low) / 2;
    REQUIRE(to_half(middle) == (h % 2 ? h + 1 : h));
    REQUIRE(to_half(std::nextafter(middle, 0.0f)) == h);
    REQUIRE(to_half(std::nextafter(middle, 1e9f)) == h + 1);
    REQUIRE(to_half(-middle) == (0x8000u | (h % 2 ? h + 1 : h)));
  }
  CHECK(to_half(65519.996f) == 0x7BFF);
  CHECK(to_half(65520.0f) == 0x7C00);
  CHECK(to_half(std::numeric_limits<float>::max()) == 0x7C00);
  CHECK(to_half(-std::numeric_limits<float>::infinity()) == 0xFC00);
  CHECK(to_half(std::numeric_limits<float>::denorm_min()) == 0);
}
