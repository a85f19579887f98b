#include <doctest/doctest.h>

#include <cmath>

#include "model/rope.h"

using namespace tinyzh;

TEST_CASE("rope: cosines and sines of fp32 angles") {
  for (const auto& [dim, heads] : {std::pair{64, 1}, {768, 12}, {6, 3}, {48, 4}}) {
    const Config config{dim, 1, 1, heads, heads, 1, 1};
    const auto pairs = static_cast<size_t>(config.head_size() / 2);
    RopeTable table(config);
    table.reserve(1000);
    for (size_t position : {0, 1, 2, 17, 255, 999})
      for (size_t i = 0; i < pairs; ++i) {
        const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_size());
        const float frequency = 1.0f / static_cast<float>(std::pow(10000.0, double{exponent}));
        const float angle = static_cast<float>(position) * frequency;
        // An ulp of the frequency, seen from this far, is what two correct tables may differ by.
        const double tolerance = 1e-7 + 1.3e-7 * std::fabs(angle);
        CHECK(std::fabs(table.cos(position)[i] - std::cos(double{angle})) <= tolerance);
        CHECK(std::fabs(table.sin(position)[i] - std::sin(double{angle})) <= tolerance);
      }
    for (size_t i = 0; i < pairs; ++i) {
      CHECK(table.cos(0)[i] == 1);
      CHECK(table.sin(0)[i] == 0);
    }
  }
}

TEST_CASE("rope: grown row by row or at once, the table is the same") {
  const Config config{48, 1, 1, 4, 4, 1, 1};
  RopeTable slow(config), fast(config);
  fast.reserve(300);
  for (size_t positions = 1; positions <= 300; ++positions) slow.reserve(positions);
  slow.reserve(5);  // nothing is taken away
  bool equal = true;
  for (size_t i = 0; i < 300 * 6; ++i)
    equal = equal && slow.cos(0)[i] == fast.cos(0)[i] && slow.sin(0)[i] == fast.sin(0)[i];
  CHECK(equal);
}
