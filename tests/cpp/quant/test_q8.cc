#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "kernels/inputs.h"
#include "quant/q8.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

struct Shape {
  size_t rows, cols, group;
};

// rows * cols is a multiple of group; beside whole groups a row: groups that straddle rows, that hold
// several rows, that are odd, and panels that are not full.
std::vector<Shape> shapes() {
  return {{1, 1, 1},     {8, 8, 8},      {9, 16, 4},    {3, 4, 1},       {16, 43, 16},   {32, 43, 32},
          {64, 172, 32}, {8, 172, 32},   {64, 2268, 64}, {16, 2268, 64}, {45, 45, 15},   {10, 45, 9},
          {8, 45, 10},   {30, 45, 27},   {64, 12, 64},  {40, 6, 24},     {7, 1, 7},      {24, 5, 8},
          {33, 172, 43}, {256, 100, 64}, {100, 64, 64}, {17, 300, 300},  {12, 10, 120}};
}

// A matrix as a file holds it: values, and scales at an odd address.
struct Flat {
  Flat(const Shape& s, uint32_t seed) : shape(s), inputs(seed), values(inputs.weight_bytes(s.rows * s.cols)) {
    scales = inputs.plain(s.rows * s.cols / s.group);
    bytes.resize(scales.size() * sizeof(float) + 1);
    std::memcpy(bytes.data() + 1, scales.data(), scales.size() * sizeof(float));
  }
  Q8Matrix pack() const { return Q8Matrix::pack(shape.rows, shape.cols, shape.group, values.data(), bytes.data() + 1); }
  float scale(size_t row, size_t col) const { return scales[(row * shape.cols + col) / shape.group]; }
  int8_t value(size_t row, size_t col) const { return values[row * shape.cols + col]; }

  Shape shape;
  Inputs inputs;
  AlignedBuffer<int8_t> values;
  std::vector<float> scales;
  std::vector<std::byte> bytes;
};

// The definition in quant/q8.h: fold over the row's segments, in order.
float product(const Flat& flat, size_t row, const int8_t* x, float x_scale) {
  const size_t cols = flat.shape.cols;
  float acc = 0;
  for (size_t col = 0; col < cols;) {
    const size_t group = (row * cols + col) / flat.shape.group;
    int32_t sum = 0;
    const float scale = flat.scale(row, col);
    for (; col < cols && (row * cols + col) / flat.shape.group == group; ++col) sum += flat.value(row, col) * x[col];
    acc = std::fma(scale, static_cast<float>(sum), acc);
  }
  return acc * x_scale;
}

}  // namespace

TEST_CASE("q8: a packed row is q * scale of the flat rule, bit for bit") {
  for (const Shape& s : shapes()) {
    CAPTURE(s.rows);
    CAPTURE(s.cols);
    CAPTURE(s.group);
    REQUIRE(s.rows * s.cols % s.group == 0);
    const Flat flat(s, 1);
    const Q8Matrix packed = flat.pack();
    CHECK(packed.rows() == s.rows);
    CHECK(packed.cols() == s.cols);
    for (size_t row = 0; row < s.rows; ++row) {
      std::vector<float> found(s.cols, -1.0f), expected(s.cols);
      packed.dequantise_row(row, found.data());
      for (size_t col = 0; col < s.cols; ++col)
        expected[col] = static_cast<float>(flat.value(row, col)) * flat.scale(row, col);
      REQUIRE(same(found, expected));
    }
  }
}

TEST_CASE("q8: every row is in one lane of one panel") {
  for (const Shape& s : shapes()) {
    const Q8Matrix packed = Flat(s, 2).pack();
    std::multiset<uint32_t> rows;
    for (size_t p = 0; p < packed.panels(); ++p)
      for (size_t lane = 0; lane < kPanelRows; ++lane)
        if (packed.rows_of_panel(p)[lane] != Q8Matrix::kNoRow) rows.insert(packed.rows_of_panel(p)[lane]);
    CHECK(rows.size() == s.rows);
    CHECK(std::set<uint32_t>(rows.begin(), rows.end()).size() == s.rows);
    CHECK(*rows.rbegin() == s.rows - 1);
  }
}

TEST_CASE("q8: the product of panels is the definition, bit for bit") {
  for (const Shape& s : shapes()) {
    Flat flat(s, 3);
    const Q8Matrix packed = flat.pack();
    constexpr size_t kBatch = 3;
    const Activations x(flat.inputs.bytes(kBatch * s.cols), kBatch, flat.inputs.plain(kBatch));
    for (const Kernels* k : runnable_kernels()) {
      CAPTURE(std::string(k->name));
      CAPTURE(s.rows);
      CAPTURE(s.cols);
      CAPTURE(s.group);
      bool right = true;
      for (size_t p = 0; p < packed.panels();) {
        const auto [panels, end] = packed.run(p, packed.panels());
        std::vector<float> out(kBatch * panels.rows);
        k->matmul_q8(out.data(), panels.rows, panels, x.rows(), kBatch);
        for (size_t b = 0; b < kBatch; ++b)
          for (size_t r = 0; r < panels.rows; ++r) {
            const uint32_t row = packed.rows_of_panel(p + r / kPanelRows)[r % kPanelRows];
            REQUIRE(row != Q8Matrix::kNoRow);
            right = right && same(out[b * panels.rows + r], product(flat, row, x.values.data() + b * x.stride, x.scales[b]));
            if (packed.in_order()) REQUIRE(row == p * kPanelRows + r);
          }
        p = end;
      }
      CHECK(right);
    }
  }
}

TEST_CASE("q8: rows quantised when a model is opened have one scale each") {
  Inputs inputs(4);
  for (const auto& [rows, cols] : std::vector<std::pair<size_t, size_t>>{{1, 1}, {8, 64}, {13, 45}, {20, 300}}) {
    std::vector<float> weights = inputs.plain(rows * cols);
    for (size_t col = 0; col < cols; ++col) weights[col] = 0;  // a row of zeros
    for (const Kernels* k : runnable_kernels()) {
      const Q8Matrix packed = Q8Matrix::quantise_rows(rows, cols, weights.data(), *k);
      CHECK(packed.panels() == (rows + 15) / 16);
      CHECK(packed.in_order());
      for (size_t row = 0; row < rows; ++row) {
        std::vector<int8_t> q(cols + 32);
        std::vector<float> sums(cols / 32 + 1);
        const float scale = kScalarKernels.quantise_row(q.data(), sums.data(), weights.data() + row * cols, cols);
        std::vector<float> found(cols), expected(cols);
        packed.dequantise_row(row, found.data());
        for (size_t col = 0; col < cols; ++col) expected[col] = static_cast<float>(q[col]) * scale;
        CHECK(same(found, expected));
        for (size_t col = 0; col < cols; ++col)
          REQUIRE(std::fabs(found[col] - weights[row * cols + col]) <= 0.5001f * scale);
      }
    }
  }
}

TEST_CASE("q8: groups of a checkpoint are rounded half to even, as the exporter does") {
  // The first group's scale is 1, the second's 2, the third is all zeros.
  const std::vector<float> weights = {127, 0.5f, 1.5f, -2.5f, -254, 1, 3, -5, 0, -0.0f, 0, 0};
  std::vector<int8_t> q(12, 9);
  std::vector<float> scales(3, 9.0f);
  quantise_groups(weights, 4, q.data(), scales.data());
  CHECK(q == std::vector<int8_t>{127, 0, 2, -2, -127, 0, 2, -2, 0, 0, 0, 0});
  CHECK(scales == std::vector<float>{1, 2, 0});
}

TEST_CASE("q8: groups of subnormal weights stay in range") {
  for (float size : {1e-38f, 1e-40f, 1e-42f, 2.6e-43f, 1e-44f, 1e-45f}) {
    const std::vector<float> weights = {size, -size, size / 2, 0};
    std::vector<int8_t> q(4);
    float scale;
    quantise_groups(weights, 4, q.data(), &scale);
    CHECK(scale >= 0);
    CHECK(q[1] == -q[0]);  // at 2.6e-43 the scale is so coarse that weight / scale is 186
    CHECK(q[0] >= 0);
    CHECK(q[3] == 0);
  }
}

TEST_CASE("q8: quantised and back: half a step at most; again: nothing changes") {
  Inputs inputs(5);
  for (size_t group : {1, 3, 15, 64}) {
    const std::vector<float> weights = inputs.plain(group * 40);
    std::vector<int8_t> q(weights.size()), again(weights.size());
    std::vector<float> scales(40), back(weights.size()), scales_again(40);
    quantise_groups(weights, group, q.data(), scales.data());
    dequantise_groups(q, group, reinterpret_cast<const std::byte*>(scales.data()), back.data());
    for (size_t k = 0; k < weights.size(); ++k) {
      REQUIRE(back[k] == static_cast<float>(q[k]) * scales[k / group]);
      REQUIRE(std::fabs(back[k] - weights[k]) <= 0.50001f * scales[k / group]);
    }
    quantise_groups(back, group, again.data(), scales_again.data());
    CHECK(again == q);
  }
}
