// The GPU's kernels, on the emulated GPU, have the bits of scalar: each by itself over shapes, odd ones included,
// and all of them in the order of the paper.  Arrays are exactly as large as they must be, so that
// AddressSanitizer sees who reaches beyond.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "cuda/emulated_stream.h"
#include "cuda/memory.h"
#include "cuda/weights.h"
#include "cuda/written.h"
#include "quant/q4.h"
#include "quant/q8.h"

using namespace tinyzh;
using namespace tinyzh::testing;
using namespace tinyzh::cuda;

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
      matmul_f32(nullptr, places_for(found.data(), rows), w.data(), plain(x.data(), cols), u(batch));
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
    matmul_f32(nullptr, places_for(out, rows), w.data(), plain(from, cols), u(columns));
  };
  product(together.data(), x.data(), batch);
  for (size_t b = 0; b < batch; ++b) {
    product(alone.data(), x.data() + b * cols, 1);
    CHECK(same(alone, std::span<const float>(together).subspan(b * rows, rows)));
  }
}

namespace {

// A matrix of one of the types that the host has.
Matrix matrix_of(DType dtype, size_t rows, size_t cols, size_t group, const std::vector<float>& weights) {
  Matrix m{rows, cols, dtype, weights.data(), {}, {}};
  if (dtype == DType::int4) m.q4 = Q4Matrix::quantise(rows, cols, weights.data(), kScalarKernels);
  if (dtype == DType::int8) {
    std::vector<int8_t> values(rows * cols);
    std::vector<float> scales(rows * cols / group);
    quantise_groups(weights, group, values.data(), scales.data());
    m.q8 = Q8Matrix::pack(rows, cols, group, values.data(), std::as_bytes(std::span(scales)).data());
  }
  return m;
}

std::vector<float> product_of_scalar(const Matrix& m, const Written& x, size_t batch) {
  std::vector<float> out(m.rows * batch);
  const Q8Rows rows{x.q8.data(), x.sums.data(), x.scales.data(), x.stride};
  if (m.dtype == DType::float32) {
    kScalarKernels.matmul_f32(out.data(), m.rows, m.f32, x.f32.data(), m.cols, m.rows, m.cols, batch);
  } else if (m.dtype == DType::int4) {
    kScalarKernels.matmul_q4(out.data(), m.rows, m.q4.run(0, m.q4.panels()), rows, batch);
  } else {
    for (size_t p = 0; p < m.q8.panels(); ++p) {
      std::vector<float> lanes(batch * 16);
      kScalarKernels.matmul_q8(lanes.data(), 16, m.q8.run(p, p + 1).panels, rows, batch);
      for (size_t i = 0; i < batch * 16; ++i)
        if (const uint32_t row = m.q8.rows_of_panel(p)[i % 16]; row != Q8Matrix::kNoRow) out[i / 16 * m.rows + row] = lanes[i];
    }
  }
  return out;
}

}  // namespace

TEST_CASE("cuda kernels: up to three matrices in one launch, of every type, with groups that straddle rows too") {
  Inputs inputs(7);
  struct Shape {
    std::vector<size_t> rows;
    size_t cols, group, batch;
  };
  for (const Shape& shape : std::vector<Shape>{{{16}, 32, 32, 1}, {{5}, 12, 12, 2}, {{70, 33}, 100, 100, 9}, {{48, 12, 12}, 44, 16, 3},
                                               {{64, 32, 32}, 172, 32, 8}, {{33, 33}, 43, 43, 17}, {{96}, 2268, 64, 1}})
    for (DType dtype : {DType::float32, DType::int8, DType::int4}) {
      const size_t cols = shape.cols, batch = shape.batch;
      CAPTURE(cols);
      CAPTURE(static_cast<int>(dtype));
      const Precision precision = dtype == DType::float32 ? Precision::float32 : dtype == DType::int8 ? Precision::int8 : Precision::int4;
      Written x(precision, batch, cols);
      x.f32 = inputs.plain(batch * cols);
      for (size_t b = 0; b < batch && dtype != DType::float32; ++b)
        x.scales[b] = kScalarKernels.quantise_row(x.q8.data() + b * x.stride, x.sums.data() + b * x.stride / 32,
                                                  x.f32.data() + b * cols, cols);
      std::vector<std::vector<float>> weights, expected, found;
      std::vector<Matrix> matrices;
      std::vector<Product::Factor> factors;
      for (size_t rows : shape.rows) weights.push_back(inputs.plain(rows * cols));
      for (size_t i = 0; i < shape.rows.size(); ++i) {
        matrices.push_back(matrix_of(dtype, shape.rows[i], cols, shape.group, weights[i]));
        expected.push_back(product_of_scalar(matrices[i], x, batch));
      }
      for (const Matrix& matrix : matrices) factors.push_back({&matrix, "w"});
      const Queue queue;
      const Product product(queue, precision, factors);
      in_every_order([&] {
        found.assign(shape.rows.size(), {});
        std::array<float*, kMostMatrices> out = {};
        for (size_t i = 0; i < found.size(); ++i) {
          found[i].assign(expected[i].size(), -1.0f);
          out[i] = found[i].data();
        }
        const size_t before = emulation::launches();
        product.put(queue, out, x.view(), u(batch));
        queue.wait();
        CHECK(emulation::launches() - before == 1);
        for (size_t i = 0; i < found.size(); ++i) CHECK(same(found[i], expected[i]));
      });
    }
}

TEST_CASE("cuda kernels: residual and norm, in the form of the next product") {
  Inputs inputs(3);
  for (size_t dim : {2, 8, 31, 48, 64, 100, 768})
    for (size_t rows : {1, 5}) {
      CAPTURE(dim);
      CAPTURE(rows);
      const std::vector<float> start = inputs.plain(rows * dim), y = inputs.plain(rows * dim), weight = inputs.plain(dim);
      for (bool branch : {false, true}) {
        std::vector<float> expected_x = start, expected(rows * dim);
        for (size_t b = 0; b < rows; ++b) {
          if (branch) kScalarKernels.add(expected_x.data() + b * dim, y.data() + b * dim, dim);
          kScalarKernels.rmsnorm(expected.data() + b * dim, expected_x.data() + b * dim, weight.data(), dim, 1e-5f);
        }
        for (Precision precision : kPrecisions)
          in_every_order([&] {
            std::vector<float> x = start;
            Written out(precision, rows, dim);
            residual_norm(nullptr, out.view(), x.data(), branch ? y.data() : nullptr, weight.data(), nullptr, 1e-5f, u(rows));
            CHECK(same(x, expected_x));
            if (is_ordered(precision)) return check_written(out, expected);
            for (size_t i = 0; i < expected.size(); ++i) CHECK(std::abs(out.f32[i] - expected[i]) <= 2e-6f * std::abs(expected[i]));
            check_narrowed(out, out.f32);
          });
      }
    }
}

TEST_CASE("cuda kernels: the norm of some rows only") {
  Inputs inputs(11);
  const size_t dim = 20;
  const std::vector<float> start = inputs.plain(5 * dim), y = inputs.plain(5 * dim), weight = inputs.plain(dim);
  const std::vector<int32_t> from = {1, 4};
  std::vector<float> x = start;
  Written out(Precision::float32, 2, dim);
  residual_norm(nullptr, out.view(), x.data(), y.data(), weight.data(), from.data(), 1e-5f, 2);
  for (size_t i = 0; i < 2; ++i) {
    std::vector<float> row(start.begin() + from[i] * 20, start.begin() + from[i] * 20 + 20), expected(dim);
    kScalarKernels.add(row.data(), y.data() + from[i] * 20, dim);
    kScalarKernels.rmsnorm(expected.data(), row.data(), weight.data(), dim, 1e-5f);
    CHECK(same(std::span<const float>(out.f32).subspan(i * dim, dim), expected));
  }
  CHECK(same(std::span<const float>(x).first(dim), std::span<const float>(start).first(dim)));
}

TEST_CASE("cuda kernels: swiglu in every form, and exp at its ends") {
  Inputs inputs(4);
  for (size_t cols : {1, 31, 32, 33, 100, 128, 129, 2268})
    for (size_t rows : {1, 3})
      for (int kind = 0; kind < 3; ++kind) {
        std::vector<float> gate = inputs.of_kind(kind, rows * cols);
        for (float& g : gate) g *= 100;
        if (rows > 1) std::fill_n(gate.begin(), cols, 0.0f);  // a row of zeros
        const std::vector<float> up = inputs.plain(rows * cols);
        std::vector<float> expected = gate;
        kScalarKernels.swiglu(expected.data(), up.data(), rows * cols);
        for (Precision precision : kPrecisions) {
          Written out(precision, rows, cols);
          swiglu(nullptr, out.view(), gate.data(), up.data(), u(rows));
          check_written(out, expected);
        }
      }
  const std::vector<float> ends = {-1000.0f, -88.31f, -88.3f, -87.3f, -1.0f,    -0.0f, 0.0f,
                                   0.5f,     87.3f,   87.31f, 88.3f,  1000.0f, INFINITY, -INFINITY, NAN};
  std::vector<float> expected = ends;
  kScalarKernels.swiglu(expected.data(), ends.data(), ends.size());
  Written found(Precision::float32, 1, ends.size());
  swiglu(nullptr, found.view(), ends.data(), ends.data(), 1);
  CHECK(same(found.f32, expected));
}

TEST_CASE("cuda kernels: embedding") {
  Inputs inputs(5);
  const size_t vocab = 11, dim = 150;
  const std::vector<float> table = inputs.plain(vocab * dim);
  const std::vector<int32_t> tokens = {10, 0, 3, 3};
  for (Precision precision : {Precision::float32, Precision::float16, Precision::bfloat16}) {
    const Queue queue;
    const Matrix matrix{vocab, dim, DType::float32, table.data(), {}, {}};
    const AlignedBuffer<std::byte> there = uploaded_rows(queue, matrix, precision, "tok_emb");
    std::vector<float> x(tokens.size() * dim);
    embed_rows(nullptr, x.data(), there.data(), precision, {tokens.data(), nullptr, nullptr, u(tokens.size())}, nullptr, u(dim));
    for (size_t i = 0; i < x.size(); ++i) {
      const float value = table[static_cast<size_t>(tokens[i / dim]) * dim + i % dim];
      CHECK(x[i] == (precision == Precision::float16    ? from_half(to_half(value))
                     : precision == Precision::bfloat16 ? from_bfloat16(to_bfloat16(value))
                                                        : value));
    }
  }
}
