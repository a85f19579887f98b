#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/math.h"

using namespace tinyzh;

namespace {

// The largest relative error of f against long double, over n random points of [low, high].
template <class F, class Reference>
double largest_error(double low, double high, int n, const F& f, const Reference& reference) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> points(low, high);
  double largest = 0;
  for (int i = 0; i < n; ++i) {
    const double x = points(random);
    const long double expected = reference(static_cast<long double>(x));
    const auto error = static_cast<double>(std::fabs((f(x) - expected) / expected));
    if (!(error <= largest)) largest = error;
  }
  return largest;
}

const auto exp_ld = [](long double x) { return std::exp(x); };
const auto log_ld = [](long double x) { return std::log(x); };

}  // namespace

TEST_CASE("math: exp") {
  CHECK(largest_error(-1, 1, 20000, math::exp, exp_ld) < 1e-15);
  CHECK(largest_error(-50, 50, 20000, math::exp, exp_ld) < 1e-15);
  CHECK(largest_error(-700, 700, 20000, math::exp, exp_ld) < 1e-15);
  CHECK(math::exp(0) == 1);
  CHECK(math::exp(-0.0) == 1);
  CHECK(math::exp(1e-300) == 1);
  for (double far : {710.0, 760.0, 5000.0, 1e300}) {
    CHECK(math::exp(far) == std::numeric_limits<double>::infinity());
    CHECK(math::exp(-far) == 0);
  }
  CHECK(math::exp(std::numeric_limits<double>::infinity()) == std::numeric_limits<double>::infinity());
  CHECK(math::exp(-std::numeric_limits<double>::infinity()) == 0);
  CHECK(std::isnan(math::exp(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("math: log") {
  CHECK(largest_error(1.0001, 2, 20000, math::log, log_ld) < 1e-15);
  CHECK(largest_error(0.5, 0.9999, 20000, math::log, log_ld) < 1e-15);
  CHECK(largest_error(1e-9, 1e-3, 20000, math::log, log_ld) < 1e-15);
  CHECK(largest_error(1, 1e300, 20000, math::log, log_ld) < 1e-15);
  CHECK(largest_error(1e-310, 2e-308, 2000, math::log, log_ld) < 1e-15);  // subnormal
  CHECK(math::log(1) == 0);
  CHECK(math::log(2) == std::log(2.0));
  for (int n = -1022; n < 1024; n += 31)
    CHECK(math::log(std::ldexp(1.0, n)) == doctest::Approx(n * 0.693147180559945309417).epsilon(1e-15));
}

TEST_CASE("math: pow, as RoPE uses it") {
  for (double base : {10000.0, 500000.0, 2.0, 0.5})
    CHECK(largest_error(0.01, 1, 5000, [base](double x) { return math::pow(base, x); },
                        [base](long double x) { return std::pow(static_cast<long double>(base), x); }) < 4e-15);
  CHECK(math::pow(10000, 0) == 1);
}

TEST_CASE("math: sine and cosine") {
  std::mt19937_64 random(3);
  double largest = 0;
  for (double range : {1.0, 4.0, 1000.0, 2097151.0}) {
    std::uniform_real_distribution<double> points(-range, range);
    for (int i = 0; i < 20000; ++i) {
      const double x = points(random);
      double sine, cosine;
      math::sin_cos(x, sine, cosine);
      const auto wide = static_cast<long double>(x);
      largest = std::fmax(largest, static_cast<double>(std::fabs(sine - std::sin(wide))));
      largest = std::fmax(largest, static_cast<double>(std::fabs(cosine - std::cos(wide))));
    }
  }
  CHECK(largest < 1e-15);

  // Next to multiples of pi / 2, where one of the two is nearly nothing.
  for (int n = -8; n <= 8; ++n) {
    const double x = n * 1.57079632679489661923;
    double sine, cosine;
    math::sin_cos(x, sine, cosine);
    CHECK(std::fabs(sine - static_cast<double>(std::sin(static_cast<long double>(x)))) < 1e-16 + 2e-16 * std::fabs(sine));
    CHECK(std::fabs(cosine - static_cast<double>(std::cos(static_cast<long double>(x)))) < 1e-16 + 2e-16 * std::fabs(cosine));
  }
  double sine, cosine;
  math::sin_cos(0, sine, cosine);
  CHECK(sine == 0);
  CHECK(cosine == 1);
}
