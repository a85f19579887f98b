// Scalar, the definition, against the textbook in double precision.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/half.h"
#include "kernels/inputs.h"
#include "kernels/kernels.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

const Kernels& scalar = kScalarKernels;
constexpr double kEpsilon = 0x1p-24;  // half a unit in the last place of 1

float exp_of(float x) {
  scalar.exp_shifted(&x, 1, 0);
  return x;
}

}  // namespace

TEST_CASE("scalar: matmul_f32 sums in eight lanes, so its error grows with a eighth of the columns") {
  Inputs inputs(1);
  for (size_t cols : {1, 7, 8, 9, 64, 300, 768, 2268}) {
    constexpr size_t kRows = 9, kBatch = 4;
    const std::vector<float> w = inputs.plain(kRows * cols), x = inputs.plain(kBatch * cols);
    std::vector<float> out(kRows * kBatch);
    scalar.matmul_f32(out.data(), kRows, w.data(), x.data(), cols, kRows, cols, kBatch);
    for (size_t b = 0; b < kBatch; ++b)
      for (size_t r = 0; r < kRows; ++r) {
        double sum = 0, magnitude = 0;
        for (size_t k = 0; k < cols; ++k) {
          const double product = double{w[r * cols + k]} * double{x[b * cols + k]};
          sum += product;
          magnitude += std::fabs(product);
        }
        CHECK(std::fabs(out[b * kRows + r] - sum) <= static_cast<double>(cols / 8 + 4) * kEpsilon * magnitude);
      }
  }
}

TEST_CASE("scalar: matmul_f32 follows the order of additions that kernels.h writes down") {
  Inputs inputs(2);
  for (size_t cols : {1, 8, 13, 64, 172}) {
    const std::vector<float> w = inputs.plain(cols), x = inputs.plain(cols);
    float lane[8] = {};
    for (size_t k = 0; k < (cols + 7) / 8 * 8; ++k)
      lane[k % 8] = std::fma(k < cols ? w[k] : 0.0f, k < cols ? x[k] : 0.0f, lane[k % 8]);
    const float expected = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
    float found;
    scalar.matmul_f32(&found, 1, w.data(), x.data(), cols, 1, cols, 1);
    CHECK(same(found, expected));
  }
}

TEST_CASE("scalar: matmul_q8 folds whole sums of its segments") {
  Inputs inputs(3);
  const std::vector<Segment> segments = {{0, 3}, {2, 5}, {5, 6}};  // the second begins in the first's last quad
  constexpr size_t kRows = 21, kQuads = 7;
  const AlignedBuffer<int8_t> values = inputs.weight_bytes(2 * kQuads * 64);
  const std::vector<float> scales = inputs.plain(2 * 3 * kPanelRows);
  const Activations x(inputs.bytes(2 * 24), 2, {0.25f, -1.5f});
  float out[2 * kRows];
  scalar.matmul_q8(out, kRows, {values.data(), scales.data(), segments.data(), 3, kQuads, kRows}, x.rows(), 2);
  for (size_t b = 0; b < 2; ++b)
    for (size_t row = 0; row < kRows; ++row) {
      double sum = 0, magnitude = 0;
      size_t place = row / 16 * kQuads;
      for (size_t s = 0; s < 3; ++s)
        for (size_t quad = segments[s].first_quad; quad < segments[s].end_quad; ++quad, ++place)
          for (size_t i = 0; i < 4; ++i) {
            const double product = double{scales[(row / 16 * 3 + s) * 16 + row % 16]} *
                                   values[place * 64 + row % 16 * 4 + i] * x.values[b * x.stride + 4 * quad + i] *
                                   x.scales[b];
            sum += product;
            magnitude += std::fabs(product);
          }
      CHECK(std::fabs(out[b * kRows + row] - sum) <= 5 * kEpsilon * magnitude);
    }
}

TEST_CASE("scalar: matmul_q4 is scale * (q - zero / 16) times the activations") {
  Inputs inputs(12);
  constexpr size_t kRows = 21, kGroups = 3;
  std::vector<Q4Group> w(2 * kGroups);
  for (Q4Group& group : w) {
    for (size_t i = 0; i < sizeof group.values; ++i) (&group.values[0][0][0])[i] = static_cast<uint8_t>(inputs.below(256));
    for (size_t r = 0; r < kPanelRows; ++r) {
      group.scales[r] = to_half(inputs.plain(1)[0] + 2);
      group.zeros[r] = static_cast<uint8_t>(inputs.below(256));
    }
  }
  const Activations x(inputs.bytes(2 * 96), 2, {0.25f, -1.5f});
  float out[2 * kRows];
  scalar.matmul_q4(out, kRows, {w.data(), kGroups, kRows}, x.rows(), 2);
  for (size_t b = 0; b < 2; ++b)
    for (size_t row = 0; row < kRows; ++row) {
      double sum = 0, magnitude = 0;
      for (size_t col = 0; col < 96; ++col) {
        const Q4Group& group = w[row / 16 * kGroups + col / 32];
        const size_t quad = col % 32 / 4;
        const uint8_t two = group.values[quad / 2][row % 16][col % 4];
        const double weight = double{from_half(group.scales[row % 16])} *
                              ((quad % 2 ? two >> 4 : two & 15) - group.zeros[row % 16] / 16.0);
        const double product = weight * x.values[b * x.stride + col] * x.scales[b];
        sum += product;
        magnitude += std::fabs(product);
      }
      CHECK(std::fabs(out[b * kRows + row] - sum) <= 5 * kEpsilon * magnitude);
    }
}

TEST_CASE("scalar: exp is within 2^-23 of e^x over its whole range, and never steps down by more") {
  // Evenly spread points, and points evenly spread over all floats.
  std::vector<float> points;
  for (int i = 0; i <= 400000; ++i) points.push_back(-87.3f + static_cast<float>(i) * (175.6f / 400000));
  for (uint32_t bits = 0; bits <= std::bit_cast<uint32_t>(88.3f); bits += 6007) {
    const float x = std::bit_cast<float>(bits);
    points.push_back(x);
    if (x <= 87.3f) points.push_back(-x);
  }
  std::erase_if(points, [](float x) { return x < -87.3f || x > 88.3f; });
  std::sort(points.begin(), points.end());
  std::vector<float> values = points;
  scalar.exp_shifted(values.data(), values.size(), 0);
  double largest_error = 0, deepest_step = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    const double expected = std::exp(double{points[i]});
    const double error = std::fabs(values[i] - expected) / expected;
    if (!(error <= largest_error)) largest_error = error;
    if (i > 0 && values[i] < values[i - 1]) deepest_step = std::max(deepest_step, 1.0 - double{values[i]} / values[i - 1]);
  }
  CHECK(largest_error < 0x1p-23);
  CHECK(deepest_step <= 0x1p-23);
}

TEST_CASE("scalar: exp at and beyond the ends") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(exp_of(0) == 1);
  CHECK(exp_of(-0.0f) == 1);
  CHECK(exp_of(-87.3f) > 0);
  CHECK(same(exp_of(std::nextafter(-87.3f, -infinity)), 0.0f));
  CHECK(same(exp_of(-infinity), 0.0f));
  CHECK(same(exp_of(-1e30f), 0.0f));
  CHECK(exp_of(infinity) == exp_of(88.3f));
  CHECK(exp_of(1000) == exp_of(88.3f));
  CHECK(std::isnan(exp_of(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("scalar: rmsnorm, swiglu, add") {
  Inputs inputs(5);
  for (size_t n : {1, 6, 8, 43, 64, 768, 2268}) {
    const std::vector<float> x = inputs.plain(n), y = inputs.plain(n);
    double squares = 0;
    for (float a : x) squares += double{a} * a;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
    std::vector<float> out(n), gate = x, sum = x;
    for (float& a : gate) a *= 20;
    const std::vector<float> raw = gate;
    scalar.rmsnorm(out.data(), x.data(), y.data(), n, 1e-5f);
    scalar.swiglu(gate.data(), y.data(), n);
    scalar.add(sum.data(), y.data(), n);
    bool right = true;
    for (size_t i = 0; i < n; ++i) {
      const double norm = double{y[i]} * x[i] * scale, silu = raw[i] / (1 + std::exp(-double{raw[i]})) * y[i];
      right = right && std::fabs(out[i] - norm) <= static_cast<double>(n / 8 + 8) * kEpsilon * std::fabs(norm);
      right = right && std::fabs(gate[i] - silu) <= 8 * kEpsilon * std::fabs(silu);
      right = right && sum[i] == x[i] + y[i];
    }
    CAPTURE(n);
    CHECK(right);
  }
  // A gate far below zero is closed, one far above lets through.
  float gates[2] = {-200, 200};
  const float up[2] = {3, 3};
  scalar.swiglu(gates, up, 2);
  CHECK(std::fabs(gates[0]) < 1e-30f);
  CHECK(gates[1] == 600);
}

TEST_CASE("scalar: rope rotates pairs and keeps their length") {
  Inputs inputs(6);
  for (size_t head_size : {2, 6, 8, 64}) {
    const size_t pairs = head_size / 2, heads = 3;
    const std::vector<float> x = inputs.plain(heads * head_size), angles = inputs.plain(pairs);
    std::vector<float> cos(pairs), sin(pairs), out = x;
    for (size_t i = 0; i < pairs; ++i) cos[i] = std::cos(3 * angles[i]), sin[i] = std::sin(3 * angles[i]);
    scalar.rope(out.data(), cos.data(), sin.data(), head_size, heads);
    for (size_t i = 0; i < heads * pairs; ++i) {
      const double a = x[2 * i], b = x[2 * i + 1], c = cos[i % pairs], s = sin[i % pairs];
      CHECK(std::fabs(out[2 * i] - (a * c - b * s)) < 4 * kEpsilon);
      CHECK(std::fabs(out[2 * i + 1] - (a * s + b * c)) < 4 * kEpsilon);
    }
  }
}

TEST_CASE("scalar: attention") {
  Inputs inputs(7);
  for (size_t head_size : {2, 6, 8, 48, 64, 80})
    for (size_t positions : {1, 2, 15, 16, 17, 33, 64, 65, 100}) {
      Head head(head_size, positions, inputs, 0);
      for (float& q : head.q) q *= 10;  // scores far enough apart to matter
      const std::vector<float> out = head.attend(scalar);
      std::vector<double> p(positions);
      double largest = -INFINITY, total = 0;
      for (size_t t = 0; t < positions; ++t) {
        for (size_t d = 0; d < head_size; ++d) p[t] += double{head.q[d]} * head.key(t, d);
        p[t] /= std::sqrt(static_cast<double>(head_size));
        largest = std::max(largest, p[t]);
      }
      for (double& a : p) total += a = std::exp(a - largest);
      for (size_t d = 0; d < head_size; ++d) {
        double expected = 0;
        for (size_t t = 0; t < positions; ++t) expected += p[t] / total * head.value(t, d);
        CAPTURE(head_size);
        CAPTURE(positions);
        CHECK(std::fabs(out[d] - expected) < 1e-5);
      }
    }
}

TEST_CASE("scalar: attention over one position is its value; a NaN key reaches the output") {
  Inputs inputs(8);
  Head head(6, 1, inputs, 0);
  const std::vector<float> out = head.attend(scalar);
  for (size_t d = 0; d < 6; ++d) CHECK(out[d] == head.value(0, d));
  head.blocks[0][0] = Head::not_a_number;
  for (float a : head.attend(scalar)) CHECK(std::isnan(a));
}

TEST_CASE("scalar: quantise_row rounds half to even") {
  // The largest is 127, so the scale is 1 and the values are seen as they are.
  const std::vector<float> x = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.49f, 126.5f, -126.5f, 3};
  std::vector<int8_t> q(32);
  float sum = 0;
  CHECK(scalar.quantise_row(q.data(), &sum, x.data(), x.size()) == 1);
  q.resize(x.size());
  CHECK(q == std::vector<int8_t>{127, 0, 2, 2, 0, -2, -2, 0, 126, -126, 3});
  CHECK(sum == 130);
}

TEST_CASE("scalar: quantise_row uses the whole range, whatever the size of the numbers") {
  Inputs inputs(9);
  for (float size : {1e-30f, 1e-3f, 1.0f, 1e20f, 1e38f})
    for (size_t n : {1, 5, 8, 45, 300}) {
      std::vector<float> x = inputs.plain(n);
      for (float& a : x) a *= size;
      std::vector<int8_t> q(n + 32);
      std::vector<float> sums(n / 32 + 1);
      const float scale = scalar.quantise_row(q.data(), sums.data(), x.data(), n);
      float largest = 0;
      for (float a : x) largest = std::max(largest, std::fabs(a));
      CHECK(scale == largest / 127);
      int most = 0;
      bool close = true;
      for (size_t i = 0; i < n; ++i) {
        most = std::max(most, std::abs(int{q[i]}));
        close = close && std::fabs(double{static_cast<float>(q[i])} * scale - x[i]) <= 0.50001 * scale;
      }
      CHECK(most == 127);
      CHECK(close);
    }
}

TEST_CASE("scalar: quantise_row of zeros, of next to nothing, and of no numbers") {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<int8_t> q(32, 5);
  float sum = 0;
  for (float a : {0.0f, -0.0f, 1e-40f, 9e-36f}) {
    const std::vector<float> x(9, a);
    CHECK(same(scalar.quantise_row(q.data(), &sum, x.data(), 9), 0.0f));
    CHECK(q == std::vector<int8_t>(32, 0));
  }
  for (size_t where = 0; where < 9; ++where) {
    std::vector<float> x(9, 1.0f);
    x[where] = Head::not_a_number;
    x[(where + 3) % 9] = infinity;
    CHECK(std::isnan(scalar.quantise_row(q.data(), &sum, x.data(), 9)));
  }
  const std::vector<float> x = {1, -infinity};
  CHECK(scalar.quantise_row(q.data(), &sum, x.data(), 2) == infinity);
}
