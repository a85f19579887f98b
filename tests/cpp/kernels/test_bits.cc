// Every table of kernels gives the bits of scalar, whatever the shape and the numbers.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "kernels/inputs.h"
#include "kernels/kernels.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

// The tables to compare with scalar; scalar itself is one, for the properties that are not comparisons.
std::vector<const Kernels*> tables() { return runnable_kernels(); }

const std::vector<size_t>& widths() {
  static const std::vector<size_t> all = [] {
    std::vector<size_t> w;
    for (size_t n = 1; n <= 41; ++n) w.push_back(n);
    for (size_t n : {48, 63, 64, 65, 100, 128, 172, 255, 300, 768, 2268}) w.push_back(n);
    return w;
  }();
  return all;
}

}  // namespace

TEST_CASE("kernels: matmul_f32 has scalar's bits, and writes nothing else") {
  Inputs inputs(1);
  constexpr float kUntouched = -12345.0f;
  for (size_t cols : widths())
    for (size_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 13, 33}) {
      if (cols > 300 && rows > 9) continue;
      const int kind = static_cast<int>((cols + rows) % kKinds);
      const size_t batch = 1 + inputs.below(20), x_stride = cols + inputs.below(3), out_stride = rows + inputs.below(3);
      const std::vector<float> w = inputs.of_kind(kind, rows * cols), x = inputs.of_kind(kind, batch * x_stride);
      std::vector<float> expected(batch * out_stride, kUntouched);
      kScalarKernels.matmul_f32(expected.data(), out_stride, w.data(), x.data(), x_stride, rows, cols, batch);
      for (size_t b = 0; b < batch; ++b)
        for (size_t r = rows; r < out_stride; ++r) REQUIRE(expected[b * out_stride + r] == kUntouched);
      for (const Kernels* k : tables()) {
        std::vector<float> found(batch * out_stride, kUntouched);
        k->matmul_f32(found.data(), out_stride, w.data(), x.data(), x_stride, rows, cols, batch);
        CAPTURE(std::string(k->name));
        CAPTURE(rows);
        CAPTURE(cols);
        CAPTURE(batch);
        CHECK(same(found, expected));
      }
    }
}

TEST_CASE("kernels: a row of matmul_f32 does not depend on the rows and columns beside it") {
  Inputs inputs(2);
  for (const Kernels* k : tables()) {
    CAPTURE(std::string(k->name));
    for (size_t cols : {5, 64, 172, 2268}) {
      constexpr size_t kRows = 11, kBatch = 20;
      const std::vector<float> w = inputs.plain(kRows * cols), x = inputs.plain(kBatch * cols);
      std::vector<float> alone(kBatch * kRows);
      for (size_t b = 0; b < kBatch; ++b)
        for (size_t r = 0; r < kRows; ++r)
          k->matmul_f32(&alone[b * kRows + r], 1, &w[r * cols], &x[b * cols], cols, 1, cols, 1);
      for (size_t batch = 1; batch <= kBatch; ++batch) {
        std::vector<float> together(batch * kRows);
        k->matmul_f32(together.data(), kRows, w.data(), x.data(), cols, kRows, cols, batch);
        CAPTURE(cols);
        CAPTURE(batch);
        CHECK(same(together, std::span(alone).first(batch * kRows)));
      }
    }
  }
}

TEST_CASE("kernels: panel_q8 has scalar's bits, row by row and batch by batch") {
  Inputs inputs(3);
  for (size_t quads : {1, 2, 3, 8, 16, 43, 192, 567}) {
    // Segments as straddling groups make them: the next may begin inside the last quad of the one before.
    for (size_t count : {1, 2, 5, 9}) {
      if (count > quads) continue;
      std::vector<Q8Segment> segments;
      size_t first = 0, total = 0;
      for (size_t s = 0; s < count; ++s) {
        const size_t end = s + 1 == count ? quads : std::max(first + 1, quads * (s + 1) / count);
        segments.push_back({static_cast<uint32_t>(first), static_cast<uint32_t>(end)});
        total += end - first;
        first = inputs.below(2) ? end - 1 : end;
        if (first >= quads) first = quads - 1;
      }
      const AlignedBuffer<int8_t> values = inputs.weight_bytes(total * 32);
      const std::vector<float> scales = inputs.of_kind(static_cast<int>(quads % 2), count * 8);
      const Q8Panel panel{values.data(), scales.data(), segments.data(), count};
      constexpr size_t kBatch = 20;
      const size_t stride = 4 * quads + 4 * inputs.below(3);
      const std::vector<int8_t> x = inputs.bytes(kBatch * stride);
      std::vector<float> x_scales = inputs.plain(kBatch);
      x_scales[3] = 0;
      x_scales[4] = std::numeric_limits<float>::quiet_NaN();
      std::vector<float> expected(kBatch * 8);
      kScalarKernels.panel_q8(expected.data(), panel, x.data(), x_scales.data(), stride, kBatch);
      for (const Kernels* k : tables()) {
        CAPTURE(std::string(k->name));
        CAPTURE(quads);
        CAPTURE(count);
        for (size_t batch = 1; batch <= kBatch; ++batch) {
          std::vector<float> found(batch * 8);
          k->panel_q8(found.data(), panel, x.data(), x_scales.data(), stride, batch);
          CHECK(same(found, std::span(expected).first(batch * 8)));
        }
      }
    }
  }
}

TEST_CASE("kernels: panel_q8 does not saturate on the largest products") {
  constexpr size_t kQuads = 1 << 10;
  AlignedBuffer<int8_t> values(kQuads * 32);
  const Q8Segment segment{0, kQuads};
  const std::vector<float> scales(8, 1.0f);
  const float one = 1;
  for (int w : {-128, -127, 127})
    for (int a : {-127, 127}) {
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int8_t>(w);
      const std::vector<int8_t> x(4 * kQuads, static_cast<int8_t>(a));
      for (const Kernels* k : tables()) {
        CAPTURE(std::string(k->name));
        float out[8];
        k->panel_q8(out, {values.data(), scales.data(), &segment, 1}, x.data(), &one, x.size(), 1);
        for (float lane : out) CHECK(lane == static_cast<float>(w * a * static_cast<int>(4 * kQuads)));
      }
    }
}

TEST_CASE("kernels: elementwise functions have scalar's bits") {
  Inputs inputs(4);
  for (size_t n : widths())
    for (int kind = 0; kind < kKinds; ++kind) {
      const std::vector<float> x = inputs.of_kind(kind, n), y = inputs.of_kind(kind, n);
      std::vector<float> larger = x;
      for (float& a : larger) a *= 60;
      auto results = [&](const Kernels& k) {
        std::vector<std::vector<float>> out;
        out.push_back(x);
        k.add(out.back().data(), y.data(), n);
        out.emplace_back(n);
        k.rmsnorm(out.back().data(), x.data(), y.data(), n, 1e-5f);
        out.push_back(larger);
        k.swiglu(out.back().data(), y.data(), n);
        out.push_back(larger);
        k.exp_shifted(out.back().data(), n, 20.5f);
        return out;
      };
      const auto expected = results(kScalarKernels);
      for (const Kernels* k : tables()) {
        const auto found = results(*k);
        for (size_t i = 0; i < expected.size(); ++i) {
          CAPTURE(std::string(k->name));
          CAPTURE(n);
          CAPTURE(kind);
          const std::string function = std::vector<std::string>{"add", "rmsnorm", "swiglu", "exp_shifted"}[i];
          CAPTURE(function);
          CHECK(same(found[i], expected[i]));
        }
      }
    }
}

TEST_CASE("kernels: quantise_row has scalar's bytes and scale") {
  Inputs inputs(5);
  for (size_t n : widths())
    for (int kind = 0; kind < kKinds; ++kind) {
      const std::vector<float> x = inputs.of_kind(kind, n);
      std::vector<int8_t> expected(n + 1, 99);
      const float scale = kScalarKernels.quantise_row(expected.data(), x.data(), n);
      for (const Kernels* k : tables()) {
        CAPTURE(std::string(k->name));
        CAPTURE(n);
        std::vector<int8_t> found(n + 1, 99);
        CHECK(same(k->quantise_row(found.data(), x.data(), n), scale));
        if (std::isfinite(scale)) CHECK(found == expected);  // otherwise every product is lost anyway
        CHECK(found.back() == 99);
      }
    }
}

TEST_CASE("kernels: rope has scalar's bits") {
  Inputs inputs(6);
  for (size_t head_size : {2, 4, 6, 8, 10, 16, 48, 64, 80, 128})
    for (size_t heads : {1, 2, 5})
      for (int kind = 0; kind < kKinds; ++kind) {
        const std::vector<float> x = inputs.of_kind(kind, head_size * heads);
        const std::vector<float> cos = inputs.plain(head_size / 2), sin = inputs.plain(head_size / 2);
        std::vector<float> expected = x;
        kScalarKernels.rope(expected.data(), cos.data(), sin.data(), head_size, heads);
        for (const Kernels* k : tables()) {
          std::vector<float> found = x;
          k->rope(found.data(), cos.data(), sin.data(), head_size, heads);
          CAPTURE(std::string(k->name));
          CAPTURE(head_size);
          CHECK(same(found, expected));
        }
      }
}

TEST_CASE("kernels: attention has scalar's bits and looks at nothing beyond its positions") {
  Inputs inputs(7);
  for (size_t head_size : {2, 4, 6, 8, 16, 48, 64, 80, 128})
    for (size_t positions = 1; positions <= 100; positions += head_size > 16 && positions > 20 ? 3 : 1) {
      const int kind = positions % 5 == 4 ? static_cast<int>(positions / 5 % 2) + 1 : 0;
      const Head head(head_size, positions, inputs, kind);
      const std::vector<float> expected = head.attend(kScalarKernels);
      if (kind == 0)
        for (float a : expected) REQUIRE(std::isfinite(a));
      for (const Kernels* k : tables()) {
        CAPTURE(std::string(k->name));
        CAPTURE(head_size);
        CAPTURE(positions);
        CHECK(same(head.attend(*k), expected));
      }
    }
}
