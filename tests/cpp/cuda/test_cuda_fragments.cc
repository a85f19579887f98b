// Products of 16 bits on tensor cores, emulated: what double precision gives, for every shape, and a row's bits
// whatever is beside it.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "cuda/memory.h"
#include "cuda/weights.h"
#include "cuda/written.h"
#include "io/expect_error.h"

using namespace tinyzh;
using namespace tinyzh::testing;
using namespace tinyzh::cuda;

namespace {

// What a product of 16 bits should give, in double precision: of the numbers as they were rounded.
std::vector<double> product_of_rounded(const std::vector<float>& w, size_t rows, const Written& x, size_t batch) {
  std::vector<double> out(rows * batch);
  for (size_t b = 0; b < batch; ++b) {
    const std::vector<float> row = x.row(b);
    for (size_t r = 0; r < rows; ++r)
      for (size_t k = 0; k < x.cols; ++k) {
        const float weight = w[r * x.cols + k];
        const float rounded = x.precision == Precision::float16 ? from_half(to_half(weight)) : from_bfloat16(to_bfloat16(weight));
        out[b * rows + r] += static_cast<double>(rounded) * static_cast<double>(row[k]);
      }
  }
  return out;
}

// Rounded rows of random numbers, written by the kernel that copies through a norm of ones.
Written rounded_rows(Precision precision, Inputs& inputs, size_t batch, size_t cols) {
  Written x(precision, batch, cols);
  const std::vector<float> gate = inputs.plain(batch * cols), up = inputs.plain(batch * cols);
  swiglu(nullptr, x.view(), gate.data(), up.data(), u(batch));
  return x;
}

bool near(const std::vector<float>& found, const std::vector<double>& expected, double tolerance) {
  for (size_t i = 0; i < found.size(); ++i)
    if (!(std::abs(static_cast<double>(found[i]) - expected[i]) <= tolerance)) return false;
  return true;
}

}  // namespace

TEST_CASE("cuda fragments: products of 16 bits, of any shape and any batch") {
  Inputs inputs(8);
  struct Shape {
    std::vector<size_t> rows;
    size_t cols, batch;
  };
  for (Precision precision : {Precision::float16, Precision::bfloat16})
    for (const Shape& shape : std::vector<Shape>{{{16}, 16, 1}, {{5}, 12, 2}, {{20, 17}, 100, 9}, {{48, 12, 12}, 44, 33},
                                                 {{40, 16, 16}, 172, 70}, {{24}, 2268, 8}}) {
      const size_t cols = shape.cols, batch = shape.batch;
      CAPTURE(cols);
      CAPTURE(batch);
      Written x = rounded_rows(precision, inputs, batch, cols);
      std::vector<std::vector<float>> weights;
      std::vector<Matrix> matrices;
      for (size_t rows : shape.rows) weights.push_back(inputs.plain(rows * cols));
      for (size_t i = 0; i < shape.rows.size(); ++i) matrices.push_back({shape.rows[i], cols, DType::float32, weights[i].data(), {}, {}});
      std::vector<Product::Factor> factors;
      for (const Matrix& matrix : matrices) factors.push_back({&matrix, "w"});
      const Queue queue;
      const Product product(queue, precision, factors);
      std::vector<std::vector<float>> first;
      in_every_order([&] {
        std::vector<std::vector<float>> found;
        std::array<float*, kMostMatrices> out = {};
        for (size_t rows : shape.rows) found.emplace_back(rows * batch, -1.0f);
        for (size_t i = 0; i < found.size(); ++i) out[i] = found[i].data();
        product.put(queue, out, x.view(), u(batch));
        queue.wait();
        for (size_t i = 0; i < found.size(); ++i) CHECK(near(found[i], product_of_rounded(weights[i], shape.rows[i], x, batch), 1e-5));
        if (first.empty()) first = found;
        for (size_t i = 0; i < found.size(); ++i) CHECK(same(found[i], first[i]));
      });
    }
}

TEST_CASE("cuda fragments: a row of 16 bits has the bits that it has alone, among 9 and among 70") {
  Inputs inputs(9);
  const size_t rows = 37, cols = 150;
  const std::vector<float> w = inputs.plain(rows * cols), gate = inputs.plain(70 * cols), up = inputs.plain(70 * cols);
  const Matrix matrix{rows, cols, DType::float32, w.data(), {}, {}};
  const Queue queue;
  const Product product(queue, Precision::float16, {{&matrix, "w"}});
  const Product twice(queue, Precision::float16, {{&matrix, "w"}, {&matrix, "w"}}, Product::Side::alternating);
  const auto products = [&](size_t first, size_t batch) {
    Written x(Precision::float16, batch, cols), gated(Precision::float16, batch, rows);
    swiglu(nullptr, x.view(), gate.data() + first * cols, up.data() + first * cols, u(batch));
    std::vector<float> out(batch * rows);
    product.put(queue, {out.data()}, x.view(), u(batch));
    twice.put_gated(queue, gated.view(), x.view(), u(batch));
    queue.wait();
    return std::pair(out, gated.f32);
  };
  const auto [of_70, gated_70] = products(0, 70);
  const auto [of_9, gated_9] = products(20, 9);
  for (size_t b = 0; b < 70; b += b == 19 ? 1 : 3) {
    const auto [alone, gated_alone] = products(b, 1);
    CHECK(same(alone, std::span<const float>(of_70).subspan(b * rows, rows)));
    CHECK(same(gated_alone, std::span<const float>(gated_70).subspan(b * rows, rows)));
    if (b < 20 || b >= 29) continue;
    CHECK(same(alone, std::span<const float>(of_9).subspan((b - 20) * rows, rows)));
    CHECK(same(gated_alone, std::span<const float>(gated_9).subspan((b - 20) * rows, rows)));
  }
}

TEST_CASE("cuda fragments: two products of 16 bits and what comes between, in one launch") {
  Inputs inputs(10);
  for (size_t rows : {16, 43})
    for (size_t batch : {1, 9, 40}) {
      const size_t cols = 60;
      Written x = rounded_rows(Precision::float16, inputs, batch, cols), found(Precision::float16, batch, rows);
      const std::vector<float> gate = inputs.plain(rows * cols), up = inputs.plain(rows * cols);
      const Matrix gate_matrix{rows, cols, DType::float32, gate.data(), {}, {}}, up_matrix{rows, cols, DType::float32, up.data(), {}, {}};
      const Queue queue;
      const Product both(queue, Precision::float16, {{&gate_matrix, "w1"}, {&up_matrix, "w3"}}, Product::Side::alternating);
      both.put_gated(queue, found.view(), x.view(), u(batch));
      queue.wait();
      const std::vector<double> g = product_of_rounded(gate, rows, x, batch), h = product_of_rounded(up, rows, x, batch);
      std::vector<double> expected;
      for (size_t i = 0; i < g.size(); ++i) expected.push_back(g[i] / (1 + std::exp(-g[i])) * h[i]);
      CHECK(near(found.f32, expected, 1e-5));
      check_narrowed(found, found.f32);
    }
}

TEST_CASE("cuda fragments: weights that 16 bits do not hold are refused by name") {
  std::vector<float> w(48, 1.0f);
  const Matrix matrix{3, 16, DType::float32, w.data(), {}, {}};
  const Queue queue;
  for (float edge : {65504.0f, 65519.0f}) {
    w[20] = edge;
    Product(queue, Precision::float16, {{&matrix, "w2 of layer 3"}});
  }
  w[20] = -65520.0f;
  expect_error(Code::checkpoint, {"w2 of layer 3", "-65520", "float16", "bfloat16 or float32"},
               [&] { Product(queue, Precision::float16, {{&matrix, "w2 of layer 3"}}); });
  Product(queue, Precision::bfloat16, {{&matrix, "w2 of layer 3"}});
  w[20] = 3.4e38f;
  expect_error(Code::checkpoint, {"wo", "bfloat16"}, [&] { Product(queue, Precision::bfloat16, {{&matrix, "wo"}}); });
  w[20] = NAN;
  expect_error(Code::checkpoint, {"wo", "not a finite number"}, [&] { Product(queue, Precision::bfloat16, {{&matrix, "wo"}}); });
}
