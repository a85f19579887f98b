// Checkpoints, llama2.c's and tz (io/tz.h): bytes -> Config + table of tensors.  parse() is pure and total:
// every input gives either a Checkpoint whose views lie inside `bytes`, or an Error(Code::checkpoint) that
// says what was expected and what was found.  Byte tables are in docs/formats.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/config.h"

namespace tinyzh {

enum class Format { v0, v1, v2, tz, arrays };  // arrays: no file, tensors that lie in memory
std::string_view format_name(Format format);   // "llama2.c v0", ...

// How a tz file holds its matrices: as fp32, or as Q8Matrix or Q4Matrix (quant/) lies in memory.
enum class Packing { none, q8, q4 };

enum class TensorId { tok_emb, rms_att, wq, wk, wv, wo, rms_ffn, w1, w2, w3, rms_final, wcls };
inline constexpr size_t kTensorCount = 12;
std::string_view tensor_name(TensorId id);  // "tok_emb", ...

// The shape that `config` gives a tensor; vectors have rows = 1.  wcls of a tied model has layers = 0.
struct TensorShape {
  size_t layers = 0, rows = 0, cols = 0;
  size_t size() const { return rows * cols; }  // elements of one layer
};
TensorShape tensor_shape(const Config& config, TensorId id);

// One tensor of the file, all its layers.  Nothing here is aligned to more than one byte for int8
// data and scales, and to 4 bytes for fp32 when the file itself is (memory maps are).
struct TensorView {
  TensorShape shape;
  bool quantised = false;           // int8 values and scales of v2
  Packing packing = Packing::none;  // of tz
  const std::byte* data = nullptr;  // first layer
  size_t layer_stride = 0;          // bytes from one layer to the next
  size_t layer_bytes = 0;           // of one layer, packed
  size_t group_size = 0;            // of the flattened matrix: element k has scale k / group_size

  std::span<const std::byte> packed(size_t layer) const { return {data + layer * layer_stride, layer_bytes}; }
  const float* f32(size_t layer) const {  // (rows, cols), neither quantised nor packed
    return reinterpret_cast<const float*>(data + layer * layer_stride);
  }
  const int8_t* q8(size_t layer) const {  // (rows, cols), quantised
    return reinterpret_cast<const int8_t*>(data + layer * layer_stride);
  }
  const std::byte* scales(size_t layer) const {  // rows * cols / group_size floats, unaligned
    return data + layer * layer_stride + shape.size();
  }
};

struct Checkpoint {
  Format format = Format::v0;
  Config config;
  size_t group_size = 0;  // v2, and tz made of it; 0: no groups, or a scale for each row
  std::array<TensorView, kTensorCount> tensors;
  Packing packing = Packing::none;  // of the matrices; tz only
  uint32_t numerics = 0;            // tz: kNumericsVersion of the program that rounded them

  const TensorView& operator[](TensorId id) const { return tensors[static_cast<size_t>(id)]; }
  size_t parameters() const;
};

// Limits on what a header may say: generous for story models, small enough that no sum of int8
// products leaves 32 bits (128 * 127 * 2^17 < 2^31).
inline constexpr int32_t kMaxDim = 1 << 17;         // dim, hidden_dim
inline constexpr int32_t kMaxLayers = 1 << 10;
inline constexpr int32_t kMaxVocab = 1 << 20;
inline constexpr int32_t kMaxSeqLen = 1 << 20;

// `name` is what messages call the input, usually its path.
Checkpoint parse_checkpoint(std::span<const std::byte> bytes, std::string_view name);

// Tensors in memory, by TensorId: fp32 (layers, rows, cols) without gaps; wcls of a tied model is empty.
using TensorArrays = std::array<std::span<const float>, kTensorCount>;

// Views of them.  Throws Error(Code::invalid_argument): a shape that no model has, or an array of another size.
Checkpoint checkpoint_of_arrays(const Config& config, const TensorArrays& arrays);

}  // namespace tinyzh
