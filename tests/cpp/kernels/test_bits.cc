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

namespace {

// The results of every table beside scalar's, for batches of 1 to kBatch rows: equal, and nothing else written.
template <class Multiply>
void check_products(size_t rows, const Activations& x, size_t most, const Multiply& multiply) {
  constexpr float kUntouched = -12345.0f;
  const size_t stride = rows + 3;
  std::vector<float> expected(most * stride, kUntouched);
  multiply(kScalarKernels, expected.data(), stride, x.rows(), most);
  for (const Kernels* k : tables()) {
    CAPTURE(std::string(k->name));
    for (size_t batch = 1; batch <= most; ++batch) {
      CAPTURE(batch);
      std::vector<float> found(batch * stride, kUntouched);
      multiply(*k, found.data(), stride, x.rows(), batch);
      CHECK(same(found, std::span(expected).first(batch * stride)));
      for (size_t b = 0; b < batch; ++b)
        for (size_t r = rows; r < stride; ++r) REQUIRE(found[b * stride + r] == kUntouched);
    }
  }
}

std::vector<float> scales_of(Inputs& inputs, size_t batch) {
  std::vector<float> scales = inputs.plain(batch);
  if (batch > 4) scales[3] = 0, scales[4] = std::numeric_limits<float>::quiet_NaN();
  return scales;
}

}  // namespace

TEST_CASE("kernels: matmul_q8 has scalar's bits, for any segments, rows and columns") {
  Inputs inputs(3);
  for (size_t quads : {1, 2, 3, 8, 9, 16, 17, 43, 192, 567}) {
    // Segments as straddling groups make them: the next may begin inside the last quad of the one before.
    for (size_t count : {1, 2, 5, 9}) {
      if (count > quads) continue;
      std::vector<Segment> segments;
      size_t first = 0, total = 0;
      for (size_t s = 0; s < count; ++s) {
        const size_t end = s + 1 == count ? quads : std::max(first + 1, quads * (s + 1) / count);
        segments.push_back({static_cast<uint32_t>(first), static_cast<uint32_t>(end)});
        total += end - first;
        first = inputs.below(2) ? end - 1 : end;
        if (first >= quads) first = quads - 1;
      }
      CAPTURE(quads);
      CAPTURE(count);
      const size_t rows = quads > 100 ? 1 + inputs.below(40) : 1 + inputs.below(170);
      CAPTURE(rows);
      const size_t panels = (rows + kPanelRows - 1) / kPanelRows, most = quads > 100 ? 14 : 30;
      const AlignedBuffer<int8_t> values = inputs.weight_bytes(panels * total * 4 * kPanelRows);
      const std::vector<float> scales = inputs.of_kind(static_cast<int>(quads % 2), panels * count * kPanelRows);
      const Activations x(inputs.bytes(most * 4 * quads), most, scales_of(inputs, most));
      const Q8Panels w{values.data(), scales.data(), segments.data(), count, total, rows};
      check_products(rows, x, most, [&w](const Kernels& k, float* out, size_t stride, const Q8Rows& in, size_t batch) {
        k.matmul_q8(out, stride, w, in, batch);
      });
    }
  }
}

TEST_CASE("kernels: matmul_q4 has scalar's bits, for any rows and columns") {
  Inputs inputs(8);
  for (size_t cols : {1, 31, 32, 33, 64, 172, 768, 2268})
    for (size_t rows : {1, 15, 16, 17, 40, 64, 70, 145}) {
      if (cols > 300 && rows > 40) continue;
      CAPTURE(cols);
      CAPTURE(rows);
      const size_t groups = (cols + kGroupColumns - 1) / kGroupColumns, panels = (rows + kPanelRows - 1) / kPanelRows;
      std::vector<Q4Group> w(panels * groups);
      for (Q4Group& group : w) {
        for (size_t i = 0; i < sizeof group.values; ++i)
          (&group.values[0][0][0])[i] = static_cast<uint8_t>(inputs.below(256));
        for (size_t r = 0; r < kPanelRows; ++r) {
          group.scales[r] = static_cast<uint16_t>(inputs.below(0x7C00));  // any finite fp16
          group.zeros[r] = static_cast<uint8_t>(inputs.below(256));
        }
      }
      const size_t most = cols > 300 ? 14 : 30;
      const Activations x(inputs.bytes(most * cols), most, scales_of(inputs, most));
      const Q4Panels panels_of{w.data(), groups, rows};
      check_products(rows, x, most, [&](const Kernels& k, float* out, size_t stride, const Q8Rows& in, size_t batch) {
        k.matmul_q4(out, stride, panels_of, in, batch);
      });
    }
}

TEST_CASE("kernels: the largest products of int8 and int4 do not saturate") {
  constexpr size_t kCols = 1 << 12;
  const Segment segment{0, kCols / 4};
  const std::vector<float> scales(kPanelRows, 1.0f);
  for (int a : {-127, 127}) {
    const Activations x(std::vector<int8_t>(kCols, static_cast<int8_t>(a)), 1, {1.0f});
    for (const Kernels* k : tables()) {
      CAPTURE(std::string(k->name));
      float out[kPanelRows];
      for (int w : {-128, -127, 127}) {
        AlignedBuffer<int8_t> values(kCols * kPanelRows);
        for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int8_t>(w);
        k->matmul_q8(out, kPanelRows, {values.data(), scales.data(), &segment, 1, kCols / 4, kPanelRows}, x.rows(), 1);
        for (float lane : out) CHECK(lane == static_cast<float>(w * a * static_cast<int>(kCols)));
      }
      for (int zero : {0, 128, 255}) {
        std::vector<Q4Group> groups(kCols / kGroupColumns);
        for (Q4Group& group : groups) {
          std::fill_n(&group.values[0][0][0], sizeof group.values, uint8_t{255});
          std::fill_n(group.scales, kPanelRows, uint16_t{0x3C00});
          std::fill_n(group.zeros, kPanelRows, static_cast<uint8_t>(zero));
        }
        k->matmul_q4(out, kPanelRows, {groups.data(), groups.size(), kPanelRows}, x.rows(), 1);
        for (float lane : out) CHECK(lane == static_cast<float>((240 - zero) * a * static_cast<int>(kCols)) / 16);
      }
    }
  }
}

TEST_CASE("kernels: quantise_q4 has scalar's codes") {
  Inputs inputs(9);
  for (int round = 0; round < 400; ++round) {
    std::vector<float> w = inputs.of_kind(round % kKinds, kGroupColumns);
    if (round % 3 == 1)
      for (float& a : w) a = std::fabs(a);
    uint8_t expected[kGroupColumns + 1] = {}, found[kGroupColumns + 1] = {};
    uint16_t expected_scale = 0, scale = 0;
    const bool possible = kScalarKernels.quantise_q4(expected, &expected_scale, &expected[kGroupColumns], w.data());
    for (const Kernels* k : tables()) {
      CAPTURE(std::string(k->name));
      CAPTURE(round);
      CHECK(k->quantise_q4(found, &scale, &found[kGroupColumns], w.data()) == possible);
      if (!possible) continue;
      CHECK(scale == expected_scale);
      CHECK(std::equal(std::begin(found), std::end(found), std::begin(expected)));
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

TEST_CASE("kernels: quantise_row has scalar's bytes, sums and scale, and fills up with zeros") {
  Inputs inputs(5);
  for (size_t n : widths())
    for (int kind = 0; kind < kKinds; ++kind) {
      const std::vector<float> x = inputs.of_kind(kind, n);
      const size_t blocks = (n + kGroupColumns - 1) / kGroupColumns, padded = blocks * kGroupColumns;
      std::vector<int8_t> expected(padded + 1, 99);
      std::vector<float> expected_sums(blocks + 1, 99.0f);
      const float scale = kScalarKernels.quantise_row(expected.data(), expected_sums.data(), x.data(), n);
      for (size_t i = n; i < padded; ++i) REQUIRE(expected[i] == 0);
      for (size_t block = 0; block < blocks; ++block) {
        int total = 0;
        for (size_t i = 0; i < kGroupColumns; ++i) total += expected[block * kGroupColumns + i];
        REQUIRE(expected_sums[block] == static_cast<float>(total));
      }
      for (const Kernels* k : tables()) {
        CAPTURE(std::string(k->name));
        CAPTURE(n);
        std::vector<int8_t> found(padded + 1, 99);
        std::vector<float> sums(blocks + 1, 99.0f);
        CHECK(same(k->quantise_row(found.data(), sums.data(), x.data(), n), scale));
        CHECK(found.back() == 99);
        CHECK(sums.back() == 99.0f);
        if (!std::isfinite(scale)) continue;  // every product is lost anyway
        CHECK(found == expected);
        CHECK(sums == expected_sums);
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
