#include "quant/q8.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"

namespace tinyzh {
namespace {

constexpr size_t kVector = 4 * kPanelRows;  // bytes of a quad of all rows of a panel

}  // namespace

Q8Matrix::Q8Matrix(size_t rows, size_t cols, size_t group_size, const Allocator& allocator)
    : rows_(rows), cols_(cols) {
  lay_out(group_size);
  own_values_ = AlignedBuffer<int8_t>(value_count_, allocator);
  own_scales_ = AlignedBuffer<float>(scale_count_, allocator);
  values_ = own_values_.data();
  scales_ = own_scales_.data();
}

Q8Matrix Q8Matrix::view(size_t rows, size_t cols, size_t group_size, std::span<const std::byte> bytes) {
  Q8Matrix matrix;
  matrix.rows_ = rows;
  matrix.cols_ = cols;
  matrix.lay_out(group_size);
  if (bytes.size() != matrix.bytes())
    fail(Code::checkpoint, rows, " x ", cols, " of int8 in groups of ", group_size, " take ", matrix.bytes(),
         " bytes, not ", bytes.size(), "; convert the original checkpoint again");
  matrix.values_ = reinterpret_cast<const int8_t*>(bytes.data());
  matrix.scales_ = reinterpret_cast<const float*>(bytes.data() + matrix.value_count_);  // a multiple of 64
  return matrix;
}

void Q8Matrix::lay_out(size_t group_size) {
  const size_t rows = rows_, cols = cols_;
  slot_of_.resize(rows);
  // Row r starts at phase (r * cols) mod group_size, which repeats every `period` rows.
  const size_t period = group_size / std::gcd(cols, group_size);
  size_t values = 0, scales = 0;
  for (size_t p = 0; p < std::min(period, rows); ++p) {
    Phase phase;
    phase.columns.push_back(0);
    for (size_t end = group_size - p * cols % group_size; end < cols; end += group_size)
      phase.columns.push_back(static_cast<uint32_t>(end));
    phase.columns.push_back(static_cast<uint32_t>(cols));
    for (size_t s = 0; s + 1 < phase.columns.size(); ++s) {
      const Segment segment{phase.columns[s] / 4, (phase.columns[s + 1] + 3) / 4};
      phase.segments.push_back(segment);
      phase.quads += segment.end_quad - segment.first_quad;
    }
    for (size_t row = p, lane = 0; row < rows; row += period, lane = (lane + 1) % kPanelRows) {
      if (lane == 0) {
        places_.push_back({values, scales, p});
        row_of_.resize(row_of_.size() + kPanelRows, kNoRow);
        values += phase.quads * kVector;
        scales += phase.segments.size() * kPanelRows;
      }
      slot_of_[row] = static_cast<uint32_t>(row_of_.size() - kPanelRows + lane);
      row_of_[slot_of_[row]] = static_cast<uint32_t>(row);
    }
    phases_.push_back(std::move(phase));
  }
  value_count_ = values;
  scale_count_ = scales;
}

Q8Matrix::Run Q8Matrix::run(size_t first, size_t last) const {
  const Place& place = places_[first];
  const Phase& phase = phases_[place.phase];
  size_t end = first + 1;
  while (end < last && places_[end].phase == place.phase) ++end;
  size_t rows = (end - first) * kPanelRows;
  while (row_of_[first * kPanelRows + rows - 1] == kNoRow) --rows;
  return {{values_ + place.value_offset, scales_ + place.scale_offset, phase.segments.data(),
           phase.segments.size(), phase.quads, rows},
          end};
}

void Q8Matrix::set_row(size_t row, const int8_t* values, const float* segment_scales) {
  const size_t lane = slot_of_[row] % kPanelRows;
  const Place& place = places_[slot_of_[row] / kPanelRows];
  const Phase& phase = phases_[place.phase];
  int8_t* quad = own_values_.data() + place.value_offset + 4 * lane;
  float* scale = own_scales_.data() + place.scale_offset + lane;
  for (size_t s = 0; s < phase.segments.size(); ++s) {
    scale[kPanelRows * s] = segment_scales[s];
    const size_t first = phase.columns[s], last = phase.columns[s + 1];
    const Segment segment = phase.segments[s];
    for (size_t q = segment.first_quad; q < segment.end_quad; ++q, quad += kVector) {
      if (4 * q >= first && 4 * q + 4 <= last) {
        std::memcpy(quad, values + 4 * q, 4);
      } else {
        for (size_t col = std::max(first, 4 * q); col < std::min(last, 4 * q + 4); ++col)
          quad[col - 4 * q] = values[col];
      }
    }
  }
}

Q8Matrix Q8Matrix::pack(size_t rows, size_t cols, size_t group_size, const int8_t* values,
                        const std::byte* unaligned_scales, const Allocator& allocator) {
  Q8Matrix matrix(rows, cols, group_size, allocator);
  std::vector<float> scales;
  for (size_t row = 0; row < rows; ++row) {
    const size_t first = row * cols / group_size, last = ((row + 1) * cols - 1) / group_size;
    scales.resize(last - first + 1);
    std::memcpy(scales.data(), unaligned_scales + first * sizeof(float), scales.size() * sizeof(float));
    matrix.set_row(row, values + row * cols, scales.data());
  }
  return matrix;
}

Q8Matrix Q8Matrix::quantise_rows(size_t rows, size_t cols, const float* weights, const Kernels& kernels,
                                 const Allocator& allocator) {
  Q8Matrix matrix(rows, cols, cols, allocator);
  std::vector<int8_t> q((cols + kGroupColumns - 1) / kGroupColumns * kGroupColumns);
  std::vector<float> sums(q.size() / kGroupColumns);
  for (size_t row = 0; row < rows; ++row) {
    const float scale = kernels.quantise_row(q.data(), sums.data(), weights + row * cols, cols);
    if (!std::isfinite(scale))
      fail(Code::checkpoint, "row ", row,
           " holds a weight that is not a finite number and has no int8 form; mend the checkpoint");
    matrix.set_row(row, q.data(), &scale);
  }
  return matrix;
}

void Q8Matrix::dequantise_row(size_t row, float* out) const {
  const size_t lane = slot_of_[row] % kPanelRows;
  const Place& place = places_[slot_of_[row] / kPanelRows];
  const Phase& phase = phases_[place.phase];
  const int8_t* quad = values_ + place.value_offset + 4 * lane;
  for (size_t s = 0; s < phase.segments.size(); ++s) {
    const float scale = scales_[place.scale_offset + kPanelRows * s + lane];
    for (size_t q = phase.segments[s].first_quad; q < phase.segments[s].end_quad; ++q, quad += kVector)
      for (size_t col = std::max<size_t>(phase.columns[s], 4 * q);
           col < std::min<size_t>(phase.columns[s + 1], 4 * q + 4); ++col)
        out[col] = static_cast<float>(quad[col - 4 * q]) * scale;
  }
}

void dequantise_groups(std::span<const int8_t> values, size_t group_size, const std::byte* unaligned_scales, float* out) {
  for (size_t k = 0; k < values.size(); ++k) {
    float scale;
    std::memcpy(&scale, unaligned_scales + k / group_size * sizeof(float), sizeof scale);
    out[k] = static_cast<float>(values[k]) * scale;
  }
}

void quantise_groups(std::span<const float> weights, size_t group_size, int8_t* values, float* scales) {
  for (size_t g = 0; g * group_size < weights.size(); ++g) {
    const std::span<const float> group = weights.subspan(g * group_size, group_size);
    float largest = 0;
    for (float w : group) largest = std::max(largest, std::fabs(w));
    const float scale = largest / 127.0f;
    scales[g] = scale;
    for (size_t i = 0; i < group_size; ++i) {
      constexpr float kMagic = 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer, half to even
      const float q = scale > 0 ? (group[i] / scale + kMagic) - kMagic : 0.0f;
      values[g * group_size + i] = static_cast<int8_t>(std::clamp(q, -127.0f, 127.0f));
    }
  }
}

}  // namespace tinyzh
