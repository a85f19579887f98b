#include <doctest/doctest.h>

#include "base/fp_env.h"
#include "base/thread_pool.h"
#include "base/unusual_floating_point.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

// The subnormal numbers and the roundings that are there, or not.
bool keeps_subnormals() {
  volatile float least_normal = 1.17549435e-38f, half = 0.5f, tiny = 1e-42f;
  return least_normal * half != 0 && tiny * 2 != 0;
}
bool rounds_to_nearest() {
  volatile float one = 1, small = 1e-10f;
  return one + small == 1 && -one - small == -1 && one - small == 1;
}

}  // namespace

TEST_CASE("fp_env: standard inside, the caller's settings outside") {
  const auto before = floating_point_word();
  for (const Unusual& setting : unusual_settings()) {
    CAPTURE(setting.name);
    const UnusualFloatingPoint unusual(setting);
    const auto theirs = floating_point_word();
    CHECK(theirs != before);
    {
      const StandardFloatingPoint standard;
      CHECK(keeps_subnormals());
      CHECK(rounds_to_nearest());
      {
        const StandardFloatingPoint nested;
        CHECK(keeps_subnormals());
      }
      CHECK(rounds_to_nearest());
    }
    CHECK(floating_point_word() == theirs);
    CHECK_FALSE((keeps_subnormals() && rounds_to_nearest()));  // the settings do what their name says
  }
  CHECK(floating_point_word() == before);
}

TEST_CASE("fp_env: the workers of a pool are standard, whoever made them") {
  for (const Unusual& setting : unusual_settings()) {
    CAPTURE(setting.name);
    const UnusualFloatingPoint unusual(setting);
    ThreadPool pool(3);
    const StandardFloatingPoint standard;  // of this thread, which works too
    std::atomic<int> wrong{0};
    for (int i = 0; i < 50; ++i)
      pool.run(64, [&](size_t, size_t) {
        if (!keeps_subnormals() || !rounds_to_nearest()) ++wrong;
      });
    CHECK(wrong == 0);
  }
}
