// The GPU's kernels, on the emulated GPU, have the bits of scalar: each by itself over shapes, odd ones included,
// and all of them in the order of the paper.  Arrays are exactly as large as they must be, so that
// AddressSanitizer sees who reaches beyond.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cuda/emulation.h"
#include "cuda/launch.h"
#include "kernels/inputs.h"
#include "model/made_models.h"
#include "quant/q4.h"
#include "quant/q8.h"

using namespace tinyzh;
using namespace tinyzh::testing;
using namespace tinyzh::cuda;

namespace {

const emulation::Schedule kSchedules[] = {
    {emulation::Order::forward}, {emulation::Order::reverse}, {emulation::Order::random, 1}, {emulation::Order::random, 2}};

template <class Check>
void in_every_order(const Check& check) {
  for (const emulation::Schedule& schedule : kSchedules) {
    emulation::set_schedule(schedule);
    check();
  }
  emulation::set_schedule({});
}

unsigned u(size_t n) { return static_cast<unsigned>(n); }

}  // namespace

TEST_CASE("cuda kernels: matmul") {
  Inputs inputs(1);
  struct Shape {
    size_t rows, cols, batch;
  };
  for (const Shape& shape : std::vector<Shape>{
           {1, 1, 1}, {16, 8, 1}, {17, 9, 3}, {5, 43, 8}, {33, 64, 9}, {40, 172, 17}, {3, 7, 2}, {64, 2268, 1}}) {
    const size_t rows = shape.rows, cols = shape.cols, batch = shape.batch;
    CAPTURE(rows);
    CAPTURE(cols);
    CAPTURE(batch);
    const std::vector<float> w = inputs.plain(rows * cols), x = inputs.plain(batch * cols);
    std::vector<float> expected(rows * batch), found(rows * batch);
    kScalarKernels.matmul_f32(expected.data(), rows, w.data(), x.data(), cols, rows, cols, batch);
    in_every_order([&] {
      found.assign(found.size(), -1.0f);
      matmul_f32(nullptr, found.data(), rows, w.data(), x.data(), cols, u(rows), u(cols), u(batch));
      CHECK(same(found, expected));
    });
  }
}

TEST_CASE("cuda kernels: a column does not depend on its neighbours") {
  Inputs inputs(2);
  const size_t rows = 21, cols = 50, batch = 19;
  const std::vector<float> w = inputs.plain(rows * cols), x = inputs.plain(batch * cols);
  std::vector<float> together(rows * batch), alone(rows);
  const auto product = [&](float* out, const float* from, size_t columns) {
    matmul_f32(nullptr, out, rows, w.data(), from, cols, u(rows), u(cols), u(columns));
  };
  product(together.data(), x.data(), batch);
  for (size_t b = 0; b < batch; ++b) {
    product(alone.data(), x.data() + b * cols, 1);
    CHECK(same(alone, std::span<const float>(together).subspan(b * rows, rows)));
  }
}

namespace {

// Rows of activations as int8, made by the kernels of scalar.
struct Quantised {
  Quantised(const std::vector<float>& x, size_t cols)
      : batch(x.size() / cols), stride((cols + kGroupColumns - 1) / kGroupColumns * kGroupColumns), q(batch * stride),
        sums(batch * stride / kGroupColumns), scales(batch) {
    for (size_t b = 0; b < batch; ++b)
      scales[b] = kScalarKernels.quantise_row(q.data() + b * stride, sums.data() + b * stride / kGroupColumns,
                                              x.data() + b * cols, cols);
  }
  Q8Rows rows() const { return {q.data(), sums.data(), scales.data(), stride}; }

  size_t batch, stride;
  std::vector<int8_t> q;
  std::vector<float> sums, scales;
};

}  // namespace

TEST_CASE("cuda kernels: rows as int8") {
  Inputs inputs(6);
  for (size_t cols : {1, 31, 32, 33, 100, 2268})
    for (size_t rows : {1, 5}) {
      CAPTURE(cols);
      for (int kind = 0; kind < 3; ++kind) {
        std::vector<float> x = kind == 0 ? inputs.plain(rows * cols) : kind == 1 ? inputs.wild(rows * cols) : inputs.broken(rows * cols);
        std::fill(x.begin(), x.begin() + static_cast<long>(rows > 1 ? cols : 0), 0.0f);  // a row of zeros
        const Quantised expected(x, cols);
        std::vector<int8_t> q(expected.q.size(), 1);
        std::vector<float> sums(expected.sums.size(), -1.0f), scales(rows, -1.0f);
        quantise_rows(nullptr, q.data(), sums.data(), scales.data(), x.data(), u(cols), u(expected.stride), u(rows));
        CHECK(q == expected.q);
        CHECK(same(sums, expected.sums));
        CHECK(same(scales, expected.scales));
      }
    }
}

TEST_CASE("cuda kernels: int8 and int4 matmul, groups that straddle rows too") {
  Inputs inputs(7);
  struct Shape {
    size_t rows, cols, group, batch;
  };
  for (const Shape& shape : std::vector<Shape>{
           {16, 32, 32, 1}, {5, 12, 12, 2}, {70, 100, 100, 9}, {48, 44, 16, 3}, {64, 172, 32, 8}, {33, 43, 43, 17}, {96, 2268, 64, 1}}) {
    const size_t rows = shape.rows, cols = shape.cols, batch = shape.batch;
    CAPTURE(rows);
    CAPTURE(cols);
    CAPTURE(shape.group);
    const std::vector<float> weights = inputs.plain(rows * cols);
    const Quantised x(inputs.plain(batch * cols), cols);
    std::vector<int8_t> values(rows * cols);
    std::vector<float> scales(rows * cols / shape.group);
    quantise_groups(weights, shape.group, values.data(), scales.data());
    const Q8Matrix q8 = Q8Matrix::pack(rows, cols, shape.group, values.data(), std::as_bytes(std::span(scales)).data());
    const Q4Matrix q4 = Q4Matrix::quantise(rows, cols, weights.data(), kScalarKernels);
    std::vector<float> expected(rows * batch), found(rows * batch);
    in_every_order([&] {
      for (size_t first = 0; first < q8.panels();) {
        const Q8Matrix::Run run = q8.run(first, q8.panels());
        std::fill(expected.begin(), expected.end(), -1.0f);
        std::fill(found.begin(), found.end(), -1.0f);
        kScalarKernels.matmul_q8(expected.data(), rows, run.panels, x.rows(), batch);
        matmul_q8(nullptr, found.data(), rows, run.panels, nullptr, x.rows(), u(batch));
        CHECK(same(found, expected));
        first = run.end;
      }
      const Q4Panels panels = q4.run(0, q4.panels());
      kScalarKernels.matmul_q4(expected.data(), rows, panels, x.rows(), batch);
      matmul_q4(nullptr, found.data(), rows, panels, x.rows(), u(batch));
      CHECK(same(found, expected));
    });
  }
}

TEST_CASE("cuda kernels: residual and norm") {
  Inputs inputs(3);
  for (size_t dim : {2, 8, 31, 48, 64, 100, 768})
    for (size_t rows : {1, 4, 5}) {
      CAPTURE(dim);
      CAPTURE(rows);
      const std::vector<float> start = inputs.plain(rows * dim), y = inputs.plain(rows * dim), weight = inputs.plain(dim);
      for (bool branch : {false, true}) {
        std::vector<float> expected_x = start, expected(rows * dim);
        for (size_t b = 0; b < rows; ++b) {
          if (branch) kScalarKernels.add(expected_x.data() + b * dim, y.data() + b * dim, dim);
          kScalarKernels.rmsnorm(expected.data() + b * dim, expected_x.data() + b * dim, weight.data(), dim, 1e-5f);
        }
        in_every_order([&] {
          std::vector<float> x = start, out(rows * dim, -1.0f);
          const float* const added = branch ? y.data() : nullptr;
          residual_norm(nullptr, out.data(), x.data(), added, weight.data(), u(dim), 1e-5f, u(rows));
          CHECK(same(x, expected_x));
          CHECK(same(out, expected));
        });
      }
    }
}

TEST_CASE("cuda kernels: swiglu, and exp at its ends") {
  Inputs inputs(4);
  for (size_t n : {1, 127, 128, 129, 1000}) {
    std::vector<float> gate = inputs.wild(n);
    for (float& g : gate) g *= 100;
    const std::vector<float> up = inputs.plain(n);
    std::vector<float> expected = gate;
    kScalarKernels.swiglu(expected.data(), up.data(), n);
    swiglu(nullptr, gate.data(), up.data(), n);
    CHECK(same(gate, expected));
  }
  const std::vector<float> ends = {-1000.0f, -88.31f, -88.3f, -87.3f, -1.0f,    -0.0f, 0.0f,
                                   0.5f,     87.3f,   87.31f, 88.3f,  1000.0f, INFINITY, -INFINITY, NAN};
  std::vector<float> expected = ends, found = ends;
  kScalarKernels.swiglu(expected.data(), ends.data(), ends.size());
  swiglu(nullptr, found.data(), ends.data(), ends.size());
  CHECK(same(found, expected));
}

TEST_CASE("cuda kernels: embedding") {
  Inputs inputs(5);
  const size_t vocab = 11, dim = 150;
  const std::vector<float> table = inputs.plain(vocab * dim);
  const std::vector<int32_t> tokens = {10, 0, 3, 3};
  std::vector<float> x(tokens.size() * dim);
  embed_rows(nullptr, x.data(), table.data(), {tokens.data(), nullptr, nullptr, u(tokens.size())}, u(dim));
  for (size_t b = 0; b < tokens.size(); ++b)
    CHECK(same(std::span<const float>(x).subspan(b * dim, dim),
               std::span<const float>(table).subspan(static_cast<size_t>(tokens[b]) * dim, dim)));
}
