#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "io/expect_error.h"
#include "kernels/inputs.h"
#include "quant/q4.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

double squared_error(const std::vector<float>& w, const std::vector<float>& found) {
  double sum = 0;
  for (size_t i = 0; i < w.size(); ++i) sum += (double{w[i]} - found[i]) * (double{w[i]} - found[i]);
  return sum;
}

// The plain way: sixteen steps from the smallest to the largest, zero rounded to sixteenths.
double plain_error(const std::vector<float>& w) {
  float low = 0, high = 0;
  for (float a : w) low = std::min(low, a), high = std::max(high, a);
  const double scale = from_half(to_half((high - low) / 15)), zero = std::min(255.0, std::nearbyint(-low / scale * 16)) / 16;
  double sum = 0;
  for (float a : w) {
    const double q = std::clamp(std::nearbyint(a / scale + zero), 0.0, 15.0), d = scale * (q - zero) - a;
    sum += d * d;
  }
  return sum;
}

}  // namespace

TEST_CASE("q4: whatever the shape, a row comes back within a step, and zeros come back as zeros") {
  Inputs inputs(1);
  for (const auto& shape : std::vector<std::pair<size_t, size_t>>{{1, 1}, {16, 32}, {17, 33}, {5, 2268}, {40, 172}}) {
    const size_t rows = shape.first, cols = shape.second;
    CAPTURE(rows);
    CAPTURE(cols);
    std::vector<float> weights = inputs.plain(rows * cols);
    for (size_t i = 0; i < weights.size(); i += 7) weights[i] = 0;
    const Q4Matrix packed = Q4Matrix::quantise(rows, cols, weights.data(), kScalarKernels);
    CHECK(packed.bytes() == (rows + 15) / 16 * ((cols + 31) / 32) * sizeof(Q4Group));
    for (size_t row = 0; row < rows; ++row) {
      std::vector<float> found(cols, 9.0f);
      packed.dequantise_row(row, found.data());
      for (size_t col = 0; col < cols; ++col) {  // ends may be drawn in by a fifth: 0.2 of at most 1
        REQUIRE(std::fabs(found[col] - weights[row * cols + col]) <= 0.21f);
        if (weights[row * cols + col] == 0) REQUIRE(std::fabs(found[col]) <= 0.071f);
      }
    }
  }
}

TEST_CASE("q4: the search is never worse than the plain way, and on the whole better") {
  Inputs inputs(2);
  double searched = 0, plain = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<float> w = inputs.plain(kGroupColumns);
    for (float& a : w) a = a * a * a;  // few large ones, as weights are
    if (round % 5 == 1)
      for (float& a : w) a = std::fabs(a);
    if (round % 5 == 2)
      for (float& a : w) a = -std::fabs(a);
    const Q4Matrix packed = Q4Matrix::quantise(1, kGroupColumns, w.data(), kScalarKernels);
    std::vector<float> found(kGroupColumns);
    packed.dequantise_row(0, found.data());
    const double error = squared_error(w, found), other = plain_error(w);
    CHECK(error <= 1.001 * other);
    searched += error;
    plain += other;
  }
  CHECK(searched < 0.95 * plain);
}

TEST_CASE("q4: a group of zeros is zeros, for every table") {
  const std::vector<float> zeros(64, 0.0f);
  for (const Kernels* k : runnable_kernels()) {
    const Q4Matrix packed = Q4Matrix::quantise(2, 32, zeros.data(), *k);
    std::vector<float> found(32, 9.0f);
    packed.dequantise_row(1, found.data());
    CHECK(found == std::vector<float>(32, 0.0f));
  }
}

TEST_CASE("q4: weights without a 4-bit form are named") {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e6f}) {
    std::vector<float> w(2 * 40, 0.5f);
    w[40 + 35] = bad;
    for (const Kernels* k : runnable_kernels())
      expect_error(Code::checkpoint, {"row 1", "columns 32 to 39", "int8"}, [&] { Q4Matrix::quantise(2, 40, w.data(), *k); });
  }
}
