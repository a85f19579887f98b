// The arithmetic of the model, as a table of functions: one table per instruction set.
//
// Every table gives the same bits.  What fixes them is written here and nowhere else:
//
//   dot product, fp32   lane j of 8 adds the products k = j, j + 8, j + 16, ... in that order, each by
//                       one fused multiply-add, starting from +0; a row that is no multiple of 8 is
//                       padded with zeros.  The lanes are added as ((0+1)+(2+3)) + ((4+5)+(6+7)).
//   any other sum       the same eight lanes and the same tree.
//   dot product, int8   integer sums are exact in any order; one float per segment (quant/q8.h), the
//                       segments added in order by acc = fma(scale, sum, acc), then acc * scale(x).
//   dot product, int4   the same over groups of 32 columns, the sum being sum(q x) - zero / 16 * sum(x), exact
//                       (quant/q4.h).
//   attention           a score adds q[d] * k[d] for d = 0, 1, ... by fused multiply-adds, then is
//                       multiplied by the key's scale (int8 only), then by 1 / sqrt(head_size); the
//                       output adds p[t] * v[t] for t = 0, 1, ... in the same way, with p[t] multiplied by
//                       the value's scale before (int8 only); it is divided by the sum of p at the very end.
//
// exp is ours (lanes.h).  Nothing depends on how many rows are computed together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tinyzh {

// Positions that one block of the KV cache holds, for every kernel and every model.
inline constexpr size_t kBlockPositions = 16;

// Head sizes are padded to whole vectors inside the cache.
inline constexpr size_t padded8(size_t n) { return (n + 7) / 8 * 8; }

// Quantised matrices lie in panels of sixteen output rows, columns in quads of four: one vector of 64 bytes
// holds four columns of sixteen rows, so that each row has its own lane and nothing is added across lanes.
inline constexpr size_t kPanelRows = 16;

// A run of columns that share one scale, in quads; see quant/q8.h.
struct Segment {
  uint32_t first_quad, end_quad;
};

// int8 panels one after another, all with the same segments.
struct Q8Panels {
  const int8_t* values;     // (panels, quads, 16 rows, 4 columns)
  const float* scales;      // (panels, segments, 16 rows)
  const Segment* segments;  // (segments)
  size_t segment_count;
  size_t quads;             // of all segments of a panel: a quad that two segments share counts twice
  size_t rows;              // results wanted: of the last panel perhaps fewer than sixteen
};

// Columns of an int4 group; rows of int8 activations are padded to a multiple of it.
inline constexpr size_t kGroupColumns = 32;

// int4: a group of sixteen rows, as it lies in memory and in a file; see quant/q4.h.
struct Q4Group {
  uint8_t values[4][kPanelRows][4];  // [i]: quad 2i in the low halves, quad 2i + 1 in the high ones
  uint16_t scales[kPanelRows];       // fp16
  uint8_t zeros[kPanelRows];         // in sixteenths
};
static_assert(sizeof(Q4Group) == 304);

struct Q4Panels {
  const Q4Group* groups;  // (panels, group_count)
  size_t group_count;     // of a panel: columns / 32, rounded up
  size_t rows;
};

// Rows of activations as int8, each with one scale.
struct Q8Rows {
  const int8_t* values;  // (batch, stride), zero beyond the columns up to a multiple of 32
  const float* sums;     // (batch, stride / 32): of each 32 values, exact
  const float* scales;   // (batch)
  size_t stride;         // a multiple of 32
};

// How keys and values are stored.  fp16 and int8 are always read as they were stored, also by the pass that
// stores them.
enum class KvType { float32, float16, int8 };
inline constexpr size_t kKvTypes = 3;

// The keys and values of one head, block after block.  Keys lie transposed so that 16 positions are side by
// side: (head_size, 16); values are (16, padded8(head_size)); int8 has a scale for each position of both.
struct AttentionHead {
  const std::byte* const* blocks;    // table of the sequence's blocks
  size_t keys, values;               // of this layer and head inside a block, in bytes
  size_t key_scales, value_scales;   // int8: (16) fp32 each
  size_t head_size;
  size_t positions;                  // how many are visible, at least 1
  size_t next_keys = 0;              // of the head after this one: what is probably read next
};

inline constexpr size_t kAttentionRows = 8;

struct Kernels {
  const char* name;

  // out[b * out_stride + r] = dot(w[r], x[b]) for r < rows, b < batch.
  // w (rows, cols) contiguous; x (batch, x_stride), readable up to cols.
  void (*matmul_f32)(float* out, size_t out_stride, const float* w, const float* x, size_t x_stride,
                     size_t rows, size_t cols, size_t batch);

  // out[b * out_stride + r] = dot(row r, x[b]) for r < w.rows, b < batch.
  void (*matmul_q8)(float* out, size_t out_stride, const Q8Panels& w, const Q8Rows& x, size_t batch);
  void (*matmul_q4)(float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, size_t batch);

  // One scale for the row: q = round_half_even(x * (127 / max|x|)); returns max|x| / 127 (0 for a row
  // of zeros; not a number when x holds one).  q is filled up with zeros to a multiple of 32; sums
  // (n / 32, rounded up) are those of 32 values each.
  float (*quantise_row)(int8_t* q, float* sums, const float* x, size_t n);

  // The 4-bit form of 32 weights (quant/q4.h): q (32) in 0 ... 15, scale (fp16) and zero.  False when a
  // weight is not finite or the scale is beyond fp16.
  bool (*quantise_q4)(uint8_t* q, uint16_t* scale, uint8_t* zero, const float* w);

  void (*rmsnorm)(float* out, const float* x, const float* weight, size_t n, float eps);
  void (*swiglu)(float* gate, const float* up, size_t n);  // gate = gate * sigmoid(gate) * up
  void (*add)(float* x, const float* y, size_t n);         // x += y

  // Rotates interleaved pairs (x[2i], x[2i+1]) of each head; cos, sin (head_size / 2).
  void (*rope)(float* x, const float* cos, const float* sin, size_t head_size, size_t heads);

  // out[r] (head_size) = softmax(q[r] . K / sqrt(head_size)) V for rows r < rows <= kAttentionRows, of which
  // row r sees head.positions + r positions: neighbours in a prompt share what is read.  scores: scratch for
  // rows times the positions of the last row rounded up to whole blocks.
  using Attention = void(float* out, size_t out_stride, const float* q, size_t q_stride, const AttentionHead& head,
                         size_t rows, float* scores);
  Attention* attention[kKvTypes];

  // To fp16, rounded half to even.
  void (*narrow)(uint16_t* out, const float* x, size_t n);

  // x[i] = exp(x[i] - shift).
  void (*exp_shifted)(float* x, size_t n, float shift);
};

// All tables compiled into this program, best first; the last is scalar, the definition.
std::span<const Kernels* const> compiled_kernels();
// Those that this processor can run, best first.
std::vector<const Kernels*> runnable_kernels();

// The table to use: `name`, else TINYZH_ISA, else the best one that this processor runs and that agrees
// with scalar in a short self-check.  An unknown or unavailable name is an Error(Code::backend).
const Kernels& choose_kernels(std::string_view name = {});

// True when `candidate` gives the bits of scalar on a few small inputs of every function (about 0.1 ms).
bool agrees_with_scalar(const Kernels& candidate);

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx2Kernels;
#elif defined(__aarch64__)
extern const Kernels kI8mmKernels;
extern const Kernels kDotprodKernels;
extern const Kernels kNeonKernels;
#endif

}  // namespace tinyzh
