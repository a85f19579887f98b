// int8 matrices: the layout that kernels multiply, and the only code that makes it.
//
// A matrix (rows, cols) has one scale for each `group_size` elements of the *flattened* matrix: element
// k = row * cols + col has the value q[k] * scale[k / group_size].  A group may straddle two rows.  A
// segment is the part of one row that lies in one group, so a row is a list of segments, and
//   dot(row, x) = fold over its segments of  fma(scale, sum of q * xq, acc),  times the scale of x.
// group_size = cols gives one scale a row and one segment.
//
// Packed layout (kernels.h, Q8Panels): panels of sixteen rows side by side; within a panel, quads of four
// columns.  Where groups straddle rows, rows begin at different places of a group (their phase).  Only
// rows of the same phase share a panel, so that all sixteen have the same segments; row_of says which
// they are.  A quad that two segments share appears once in each, with zeros in the columns of the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "kernels/kernels.h"

namespace tinyzh {

// Longest row of a quantised matrix: sums of 255 * 127 a column must stay below 2^31.
inline constexpr size_t kMostQuantisedColumns = 65536;

class Q8Matrix {
 public:
  static constexpr uint32_t kNoRow = UINT32_MAX;  // padding of a panel that is not full

  Q8Matrix() = default;
  // An empty matrix with its layout; rows * cols must be a multiple of group_size.
  Q8Matrix(size_t rows, size_t cols, size_t group_size, const Allocator& allocator = Allocator::system());

  // values (rows, cols), scales (rows * cols / group_size), as in a v2 checkpoint.
  static Q8Matrix pack(size_t rows, size_t cols, size_t group_size, const int8_t* values,
                       const std::byte* unaligned_scales, const Allocator& allocator = Allocator::system());
  // One scale a row: max|w| / 127, values rounded half to even.  Throws Error(Code::checkpoint) when a
  // weight is not a finite number.
  static Q8Matrix quantise_rows(size_t rows, size_t cols, const float* weights, const Kernels& kernels,
                                const Allocator& allocator = Allocator::system());

  // The same matrix where it lies in a file: values, then scales, as packed() of an equal matrix, aligned
  // to 64 bytes, which must stay.  Throws Error(Code::checkpoint) when there are too few or too many.
  static Q8Matrix view(size_t rows, size_t cols, size_t group_size, std::span<const std::byte> bytes);

  size_t rows() const { return rows_; }
  size_t cols() const { return cols_; }
  size_t panels() const { return places_.size(); }
  size_t bytes() const { return value_count_ + scale_count_ * sizeof(float); }
  size_t owned_bytes() const { return own_values_.bytes() + own_scales_.bytes(); }
  std::span<const std::byte> packed_values() const { return std::as_bytes(std::span(values_, value_count_)); }
  std::span<const std::byte> packed_scales() const { return std::as_bytes(std::span(scales_, scale_count_)); }

  // The panels from `first`, at most up to `last`, that one call of a kernel can take: those of one phase.
  struct Run {
    Q8Panels panels;
    size_t end;  // the panel after them
  };
  Run run(size_t first, size_t last) const;
  // True when row r lies in lane r % 16 of panel r / 16, as it does when no group straddles rows.
  bool in_order() const { return phases_.size() == 1; }
  const uint32_t* rows_of_panel(size_t index) const { return row_of_.data() + kPanelRows * index; }

  // out (cols): q * scale of one row.
  void dequantise_row(size_t row, float* out) const;

 private:
  struct Phase {  // what the panels of one phase share
    std::vector<Segment> segments;
    std::vector<uint32_t> columns;  // boundaries: segment s covers [columns[s], columns[s + 1])
    size_t quads = 0;               // of all segments
  };
  struct Place {
    size_t value_offset, scale_offset;
    size_t phase;
  };
  void lay_out(size_t group_size);
  void set_row(size_t row, const int8_t* values, const float* segment_scales);

  size_t rows_ = 0, cols_ = 0;
  std::vector<Phase> phases_;
  std::vector<Place> places_;        // per panel
  std::vector<uint32_t> row_of_;     // (panels, 16)
  std::vector<uint32_t> slot_of_;    // (rows): panel * 16 + lane
  size_t value_count_ = 0, scale_count_ = 0;
  const int8_t* values_ = nullptr;   // here or in a file
  const float* scales_ = nullptr;
  AlignedBuffer<int8_t> own_values_;
  AlignedBuffer<float> own_scales_;
};

// The exporter's rounding, group by group of the flattened values (llama2.c v2): scale = max|w| / 127,
// q = round_half_even(w / scale); a group of zeros has scale 0.
void quantise_groups(std::span<const float> weights, size_t group_size, int8_t* values, float* scales);

// The flat rule of v2: out[k] = values[k] * scales[k / group_size].
void dequantise_groups(std::span<const int8_t> values, size_t group_size, const std::byte* unaligned_scales, float* out);

}  // namespace tinyzh
