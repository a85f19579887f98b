#include "cuda/weights.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/half.h"
#include "cuda/allocators.h"

namespace tinyzh::cuda {
namespace {

unsigned u(size_t n) { return static_cast<unsigned>(n); }
constexpr size_t panels_of(size_t rows) { return (rows + kPanelRows - 1) / kPanelRows; }

uint16_t narrowed(float x, Precision precision, const std::string& name) {
  const bool brain = precision == Precision::bfloat16;
  const uint16_t half = brain ? to_bfloat16(x) : to_half(x);
  if (std::isfinite(brain ? from_bfloat16(half) : from_half(half))) return half;
  if (!std::isfinite(x))
    fail(Code::checkpoint, name, ": a weight is ", x, ", not a finite number; download or convert the file again");
  fail(Code::checkpoint, name, ": a weight is ", x, ", beyond what dtype ", brain ? "bfloat16" : "float16",
       brain ? " holds; use dtype float32" : " holds (65504); use dtype bfloat16 or float32");
}

// Where a fragment of device.h has A[row][k].
size_t place_in_fragment(size_t row, size_t k) {
  const size_t lane = row % 8 * 4 + k % 8 / 2;
  return lane * 8 + (k / 8 * 2 + row / 8) * 2 + k % 2;
}

}  // namespace

AlignedBuffer<std::byte> uploaded(const Queue& queue, std::span<const std::byte> first, std::span<const std::byte> second) {
  AlignedBuffer<std::byte> bytes(first.size() + second.size(), device_memory(), Fill::nothing);
  if (!first.empty()) queue.upload(bytes.data(), first.data(), first.size());
  if (!second.empty()) queue.upload(bytes.data() + first.size(), second.data(), second.size());
  return bytes;
}

AlignedBuffer<std::byte> uploaded_rows(const Queue& queue, const Matrix& matrix, Precision precision, const std::string& name) {
  std::vector<float> wide(matrix.rows * matrix.cols);
  for (size_t row = 0; row < matrix.rows; ++row) matrix.row(row, wide.data() + row * matrix.cols);
  if (is_ordered(precision)) return uploaded(queue, std::span<const float>(wide));
  std::vector<uint16_t> narrow;
  narrow.reserve(wide.size());
  for (float x : wide) narrow.push_back(narrowed(x, precision, name));
  return uploaded(queue, std::span<const uint16_t>(narrow));
}

Product::Product(const Queue& queue, Precision precision, const std::vector<Factor>& factors, Side side)
    : precision_(precision) {
  places_.count = u(factors.size());
  for (size_t i = 0; i < factors.size(); ++i) {
    const Matrix& matrix = *factors[i].matrix;
    places_.of[i] = {nullptr, u(matrix.rows), places_.panels};
    places_.panels += u(matrix.dtype == DType::int8 ? matrix.q8.panels() : panels_of(matrix.rows));
  }
  switch (precision) {
    case Precision::float32: upload_f32(queue, factors); break;
    case Precision::int8: upload_q8(queue, factors); break;
    case Precision::int4: upload_q4(queue, factors); break;
    case Precision::float16:
    case Precision::bfloat16: upload_half(queue, factors, side); break;
  }
}

void Product::upload_f32(const Queue& queue, const std::vector<Factor>& factors) {
  const size_t cols = factors[0].matrix->cols;
  bytes_ = AlignedBuffer<std::byte>((size_t{places_.of[places_.count - 1].first} * kPanelRows + factors.back().matrix->rows) *
                                        cols * sizeof(float), device_memory(), Fill::nothing);
  for (size_t i = 0; i < factors.size(); ++i)
    queue.upload(bytes_.data() + places_.of[i].first * kPanelRows * cols * sizeof(float), factors[i].matrix->f32,
                 factors[i].matrix->rows * cols * sizeof(float));
}

void Product::upload_q8(const Queue& queue, const std::vector<Factor>& factors) {
  std::vector<Q8Part> parts;
  for (size_t i = 0; i < factors.size(); ++i) {
    const Q8Matrix& q8 = factors[i].matrix->q8;
    kept_.push_back(uploaded(queue, q8.packed_values(), q8.packed_scales()));
    const std::byte* const there = kept_.back().data();
    const auto* values = reinterpret_cast<const int8_t*>(q8.packed_values().data());
    const auto* scales = reinterpret_cast<const float*>(q8.packed_scales().data());
    for (size_t first = 0; first < q8.panels();) {
      const Q8Matrix::Run run = q8.run(first, q8.panels());
      Q8Part part{run.panels, nullptr, u(i), u(places_.of[i].first + first)};
      part.panels.values = reinterpret_cast<const int8_t*>(there) + (run.panels.values - values);
      part.panels.scales =
          reinterpret_cast<const float*>(there + q8.packed_values().size()) + (run.panels.scales - scales);
      kept_.push_back(uploaded(queue, std::span(run.panels.segments, run.panels.segment_count)));
      part.panels.segments = reinterpret_cast<const Segment*>(kept_.back().data());
      if (!q8.in_order()) {
        kept_.push_back(uploaded(queue, std::span(q8.rows_of_panel(first), (run.end - first) * kPanelRows)));
        part.row_of = reinterpret_cast<const uint32_t*>(kept_.back().data());
      }
      parts.push_back(part);
      first = run.end;
    }
  }
  part_count_ = u(parts.size());
  parts_ = uploaded(queue, std::span<const Q8Part>(parts));
}

void Product::upload_q4(const Queue& queue, const std::vector<Factor>& factors) {
  size_t bytes = 0;
  for (const Factor& factor : factors) bytes += factor.matrix->q4.bytes();
  bytes_ = AlignedBuffer<std::byte>(bytes, device_memory(), Fill::nothing);
  bytes = 0;
  for (const Factor& factor : factors) {
    const std::span<const std::byte> packed = factor.matrix->q4.packed();
    queue.upload(bytes_.data() + bytes, packed.data(), packed.size());
    bytes += packed.size();
  }
}

void Product::upload_half(const Queue& queue, const std::vector<Factor>& factors, Side side) {
  constexpr size_t kStep = 16, kFragment = kPanelRows * kStep;
  const size_t steps = (factors[0].matrix->cols + kStep - 1) / kStep;
  std::vector<uint16_t> fragments(places_.panels * steps * kFragment);
  for (size_t i = 0; i < factors.size(); ++i) {
    const Matrix& matrix = *factors[i].matrix;
    std::vector<float> wide(matrix.cols);
    for (size_t row = 0; row < matrix.rows; ++row) {
      matrix.row(row, wide.data());
      const size_t in_matrix = row / kPanelRows;
      const size_t panel = side == Side::alternating ? 2 * in_matrix + i : places_.of[i].first + in_matrix;
      for (size_t k = 0; k < matrix.cols; ++k)
        fragments[(panel * steps + k / kStep) * kFragment + place_in_fragment(row % kPanelRows, k % kStep)] =
            narrowed(wide[k], precision_, factors[i].name);
    }
  }
  bytes_ = uploaded(queue, std::span<const uint16_t>(fragments));
}

void Product::put(Stream stream, const std::array<float*, kMostMatrices>& out, const Activations& in, unsigned batch) const {
  Places places = places_;
  for (size_t i = 0; i < places.count; ++i) places.of[i].out = out[i];
  switch (precision_) {
    case Precision::float32: return matmul_f32(stream, places, data<float>(), in, batch);
    case Precision::int8:
      return matmul_q8(stream, places, reinterpret_cast<const Q8Part*>(parts_.data()), part_count_, in, batch);
    case Precision::int4: return matmul_q4(stream, places, data<Q4Group>(), in, batch);
    case Precision::float16:
    case Precision::bfloat16: return matmul_half(stream, places, data<uint16_t>(), in, batch);
  }
}

void Product::put_gated(Stream stream, const Activations& out, const Activations& in, unsigned batch) const {
  matmul_gated(stream, out, data<uint16_t>(), in, batch);
}

}  // namespace tinyzh::cuda
