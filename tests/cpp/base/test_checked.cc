#include <doctest/doctest.h>

#include <cstdint>
#include <limits>

#include "base/checked.h"

using namespace tinyzh;

namespace {
constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
}

TEST_CASE("checked: sums up to the largest number, none beyond") {
  CHECK(checked_add(2, 3) == 5);
  CHECK(checked_add(kMost, 0) == kMost);
  CHECK(checked_add(kMost - 1, 1) == kMost);
  CHECK(checked_add(kMost, 1) == std::nullopt);
  CHECK(checked_add(1, kMost) == std::nullopt);
  CHECK(checked_add(kMost, kMost) == std::nullopt);
}

TEST_CASE("checked: products up to the largest number, none beyond") {
  CHECK(checked_mul(6, 7) == 42);
  CHECK(checked_mul(0, kMost) == 0);
  CHECK(checked_mul(kMost, 0) == 0);
  CHECK(checked_mul(kMost, 1) == kMost);
  CHECK(checked_mul(1ull << 32, (1ull << 32) - 1) == kMost - ((1ull << 32) - 1));
  CHECK(checked_mul(1ull << 32, 1ull << 32) == std::nullopt);
  CHECK(checked_mul(kMost / 3 + 1, 3) == std::nullopt);
  CHECK(checked_mul(kMost / 3, 3) == kMost / 3 * 3);
}
