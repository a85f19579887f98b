// What tests of the GPU's kernels have in common: every order of threads, and activations in every form.
#pragma once

#include <doctest/doctest.h>

#include <span>
#include <vector>

#include "base/half.h"
#include "cuda/emulation.h"
#include "cuda/launch.h"
#include "kernels/inputs.h"

namespace tinyzh::testing {

inline const cuda::emulation::Schedule kSchedules[] = {
    {cuda::emulation::Order::forward}, {cuda::emulation::Order::reverse}, {cuda::emulation::Order::random, 1}, {cuda::emulation::Order::random, 2}};

template <class Check>
void in_every_order(const Check& check) {
  for (const cuda::emulation::Schedule& schedule : kSchedules) {
    cuda::emulation::set_schedule(schedule);
    check();
  }
  cuda::emulation::set_schedule({});
}

inline unsigned u(size_t n) { return static_cast<unsigned>(n); }

// One matrix of `rows` rows, with its results in `out`.
inline cuda::Places places_for(float* out, size_t rows) { return {{{out, u(rows), 0}, {}, {}}, 1, u((rows + 15) / 16)}; }

inline cuda::Activations plain(const float* x, size_t cols) {
  return {cuda::Precision::float32, u(cols), u(cols), const_cast<float*>(x), nullptr, nullptr, nullptr, nullptr};
}

// Activations of any precision, exactly as large as they must be.
struct Written {
  Written(cuda::Precision type, size_t rows, size_t width)
      : precision(type), cols(width),
        stride(precision == cuda::Precision::float32 ? cols : cuda::is_quantised(precision) ? (cols + 31) / 32 * 32 : (cols + 15) / 16 * 16),
        f32(rows * cols, -1.0f) {
    if (cuda::is_quantised(precision)) {
      q8.assign(rows * stride, 1);
      sums.assign(rows * stride / 32, -1.0f);
      scales.assign(rows, -1.0f);
    }
    if (!cuda::is_ordered(precision)) half.assign((rows + 7) / 8 * 8 * stride, 0x7e00);  // not a number, until it is written
  }
  cuda::Activations view() {
    return {precision, u(cols), u(stride), f32.data(), q8.data(), sums.data(), scales.data(), half.data()};
  }
  // What the 16 bits of a row stand for, columns that fill up included.
  std::vector<float> row(size_t b) const {
    std::vector<float> values;
    for (size_t k = 0; k < stride; ++k) {
      const size_t lane = b % 8 * 4 + k % 8 / 2;
      const uint16_t bits = half[(b / 8 * (stride / 16) + k / 16) * 128 + lane * 4 + k % 16 / 8 * 2 + k % 2];
      values.push_back(precision == cuda::Precision::float16 ? from_half(bits) : from_bfloat16(bits));
    }
    return values;
  }

  const cuda::Precision precision;
  const size_t cols, stride;
  std::vector<float> f32, sums, scales;
  std::vector<int8_t> q8;
  std::vector<uint16_t> half;
};

// Rows as scalar quantises them.
inline void check_quantised(const Written& found, const std::vector<float>& rows) {
  Written expected(found.precision, rows.size() / found.cols, found.cols);
  for (size_t b = 0; b < rows.size() / found.cols; ++b)
    expected.scales[b] = kScalarKernels.quantise_row(expected.q8.data() + b * found.stride,
                                                     expected.sums.data() + b * found.stride / 32, rows.data() + b * found.cols,
                                                     found.cols);
  CHECK(found.q8 == expected.q8);
  CHECK(same(found.sums, expected.sums));
  CHECK(same(found.scales, expected.scales));
}

// Rows as base/half.h rounds them, and zeros behind them.
inline void check_narrowed(const Written& found, const std::vector<float>& rows) {
  for (size_t b = 0; b < rows.size() / found.cols; ++b) {
    std::vector<float> expected(found.stride);
    for (size_t k = 0; k < found.cols; ++k) {
      const float x = rows[b * found.cols + k];
      expected[k] = found.precision == cuda::Precision::float16 ? from_half(to_half(x)) : from_bfloat16(to_bfloat16(x));
    }
    CHECK(same(found.row(b), expected));
  }
}

inline void check_written(const Written& found, const std::vector<float>& rows) {
  CHECK(same(found.f32, rows));
  if (cuda::is_quantised(found.precision)) check_quantised(found, rows);
  if (!cuda::is_ordered(found.precision)) check_narrowed(found, rows);
}

inline constexpr cuda::Precision kPrecisions[] = {cuda::Precision::float32, cuda::Precision::int8, cuda::Precision::int4, cuda::Precision::float16, cuda::Precision::bfloat16};

}  // namespace tinyzh::testing
