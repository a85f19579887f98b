#include "base/math.h"

#include <bit>
#include <cstdint>
#include <limits>

namespace tinyzh::math {
namespace {

// ln 2 in two parts, the first with enough trailing zeros that n * kLn2High is exact.
constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;

double power_of_two(int64_t n) { return std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52); }
double round_even(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

}  // namespace

double exp(double x) {
  if (x != x) return x;
  if (x > 709.0) return std::numeric_limits<double>::infinity();
  if (x < -708.0) return 0;
  const double n = round_even(x * 1.4426950408889634);
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= 0.347
  // Taylor series to the 14th power: the rest is below 2e-19.
  double sum = 1;
  for (int k = 14; k >= 1; --k) sum = 1 + sum * r / k;
  return sum * power_of_two(static_cast<int64_t>(n));
}

double log(double x) {
  int64_t exponent = 0;
  if (x < std::numeric_limits<double>::min()) {  // subnormal
    x *= 0x1p54;
    exponent = -54;
  }
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  exponent += static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);  // [1, 2)
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <= 0.1716: s^2/3, s^4/5, ... to 2e-18.
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double series = 0;
  for (int k = 23; k >= 3; k -= 2) series = s2 * (1.0 / k + series);
  const double n = static_cast<double>(exponent);
  return n * kLn2High + (n * kLn2Low + 2 * (s + s * series));
}

double pow(double base, double exponent) { return exp(exponent * log(base)); }

void sin_cos(double x, double& sine, double& cosine) {
  // x = n pi/2 + r with pi/2 in three parts, so that no bit of r is lost; then Taylor series, |r| <= pi/4.
  constexpr double kHalfPi1 = 1.57079632673412561417e+00, kHalfPi2 = 6.07710050630396597660e-11,
                   kHalfPi3 = 2.02226624879595063154e-21;
  const double n = round_even(x * 0.63661977236758134308);
  const double r = ((x - n * kHalfPi1) - n * kHalfPi2) - n * kHalfPi3, r2 = r * r;
  double s = 1, c = 1;
  for (int k = 18; k >= 2; k -= 2) {
    s = 1 - s * r2 / (k * (k + 1));
    c = 1 - c * r2 / (k * (k - 1));
  }
  s *= r;
  const int quadrant = static_cast<int>(static_cast<int64_t>(n) & 3);
  const double swapped_s = quadrant & 1 ? c : s, swapped_c = quadrant & 1 ? s : c;
  sine = quadrant & 2 ? -swapped_s : swapped_s;
  cosine = (quadrant + 1) & 2 ? -swapped_c : swapped_c;
}

}  // namespace tinyzh::math
