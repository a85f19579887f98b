// int4 matrices: groups of 32 columns, each with its own scale and zero.
//
//   w = scale * (q - zero / 16),   q in 0 ... 15,   scale fp16,   zero in 0 ... 255:   4.75 bits a weight.
//   dot(row, x) = fold over the groups of  fma(scale, sum(q * xq) - zero / 16 * sum(xq), acc),  times the
//   scale of x.  Both sums are integers and their difference is exact in fp32.
//
// Rows are padded to whole groups (zeros), panels to sixteen rows.  Packed layout: Q4Group in kernels.h,
// (panels, groups of a row).
#pragma once

#include <cstddef>
#include <span>

#include "base/aligned.h"
#include "kernels/kernels.h"

namespace tinyzh {

class Q4Matrix {
 public:
  Q4Matrix() = default;
  // Rounds each group to the scale and zero, out of a few candidates, with the least squared error.  Throws
  // Error(Code::checkpoint) when a weight is not a finite number or beyond what fp16 scales can hold.
  static Q4Matrix quantise(size_t rows, size_t cols, const float* weights, const Kernels& kernels,
                           const Allocator& allocator = Allocator::system());

  // The same matrix where it lies in a file: bytes() of an equal matrix, aligned to 64 bytes, which must
  // stay.  Throws Error(Code::checkpoint) when their number is another.
  static Q4Matrix view(size_t rows, size_t cols, std::span<const std::byte> bytes);

  size_t rows() const { return rows_; }
  size_t cols() const { return cols_; }
  size_t panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  size_t groups() const { return (cols_ + kGroupColumns - 1) / kGroupColumns; }  // of a row
  size_t bytes() const { return panels() * groups() * sizeof(Q4Group); }
  size_t owned_bytes() const { return owned_.bytes(); }
  std::span<const std::byte> packed() const { return {reinterpret_cast<const std::byte*>(groups_), bytes()}; }

  // Panels first ... last - 1.
  Q4Panels run(size_t first, size_t last) const;

  // out (cols): one row.
  void dequantise_row(size_t row, float* out) const;

 private:
  size_t rows_ = 0, cols_ = 0;
  const Q4Group* groups_ = nullptr;  // (panels, groups), here or in a file
  AlignedBuffer<Q4Group> owned_;
};

}  // namespace tinyzh
