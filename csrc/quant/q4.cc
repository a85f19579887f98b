#include "quant/q4.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/half.h"

namespace tinyzh {

Q4Matrix Q4Matrix::quantise(size_t rows, size_t cols, const float* weights, const Kernels& kernels,
                            const Allocator& allocator) {
  Q4Matrix matrix;
  matrix.rows_ = rows;
  matrix.cols_ = cols;
  matrix.owned_ = AlignedBuffer<Q4Group>(matrix.panels() * matrix.groups(), allocator);
  matrix.groups_ = matrix.owned_.data();
  for (size_t row = 0; row < rows; ++row) {
    const size_t lane = row % kPanelRows;
    for (size_t g = 0; g < matrix.groups(); ++g) {
      Q4Group& group = matrix.owned_[row / kPanelRows * matrix.groups() + g];
      const size_t first = g * kGroupColumns, count = std::min(kGroupColumns, cols - first);
      float padded[kGroupColumns] = {};
      const float* w = weights + row * cols + first;
      if (count < kGroupColumns) {
        std::memcpy(padded, w, count * sizeof(float));
        w = padded;
      }
      uint8_t q[kGroupColumns];
      if (!kernels.quantise_q4(q, &group.scales[lane], &group.zeros[lane], w))
        fail(Code::checkpoint, "row ", row, ", columns ", first, " to ", first + count - 1,
             ": a weight is not a finite number or above 65504 and has no int4 form; mend the checkpoint or use int8");
      for (size_t i = 0; i < 4; ++i)
        for (size_t k = 0; k < 4; ++k)
          group.values[i][lane][k] = static_cast<uint8_t>(q[8 * i + k] | q[8 * i + 4 + k] << 4);
    }
  }
  return matrix;
}

Q4Matrix Q4Matrix::view(size_t rows, size_t cols, std::span<const std::byte> bytes) {
  Q4Matrix matrix;
  matrix.rows_ = rows;
  matrix.cols_ = cols;
  if (bytes.size() != matrix.bytes())
    fail(Code::checkpoint, rows, " x ", cols, " of int4 take ", matrix.bytes(), " bytes, not ", bytes.size(),
         "; convert the original checkpoint again");
  matrix.groups_ = reinterpret_cast<const Q4Group*>(bytes.data());
  return matrix;
}

Q4Panels Q4Matrix::run(size_t first, size_t last) const {
  return {groups_ + first * groups(), groups(), std::min(rows_, last * kPanelRows) - first * kPanelRows};
}

void Q4Matrix::dequantise_row(size_t row, float* out) const {
  const size_t lane = row % kPanelRows;
  const Q4Group* group = groups_ + row / kPanelRows * groups();
  for (size_t col = 0; col < cols_; ++col) {
    const Q4Group& g = group[col / kGroupColumns];
    const size_t quad = col % kGroupColumns / 4;
    const uint8_t two = g.values[quad / 2][lane][col % 4];
    const int sixteenths = 16 * (quad % 2 ? two >> 4 : two & 15) - g.zeros[lane];
    out[col] = from_half(g.scales[lane]) * (static_cast<float>(sixteenths) * 0.0625f);
  }
}

}  // namespace tinyzh
