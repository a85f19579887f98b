// What follows from a header: whether it makes sense, and which bytes come in which order after it.
// The reader and the writer both go by these two functions, so they cannot drift apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace tinyzh {

// The header.  v0 is seven int32 and nothing else; v1 and v2 put magic and version in front of them,
// flags behind them and zeros up to 256 bytes.
inline constexpr uint32_t kMagic = 0x616b3432;
inline constexpr size_t kHeaderSizeV0 = 28;
inline constexpr size_t kHeaderSizeV1 = 256;  // and of v2
inline constexpr size_t kVersionOffset = 4;
inline constexpr size_t kDimsOffset = 8;
inline constexpr size_t kTiedOffset = 36;
inline constexpr size_t kGroupSizeOffset = 37;  // v2; not aligned
inline size_t header_size(Format format) { return format == Format::v0 ? kHeaderSizeV0 : kHeaderSizeV1; }

// The first thing that is wrong with the numbers of a header, with field, value and limit; empty
// when they make sense.  group_size is looked at for v2 only.
std::string header_problem(const Config& config, Format format, int64_t group_size);

// A run of bytes in the file: all layers of one tensor, or the RoPE tables.
struct Section {
  std::optional<TensorId> tensor;  // none: the two RoPE tables of v0, which no reader needs
  bool quantised = false;
  uint64_t layers = 0;
  uint64_t layer_bytes = 0;  // int8 values and their scales together, if quantised
  uint64_t bytes() const;
};

// The sections behind the header, in the order of the file.  The header must have no problem.
std::vector<Section> file_sections(const Config& config, Format format, size_t group_size);

// Header and sections together: the size that the file must have.
uint64_t file_size(const Config& config, Format format, size_t group_size);

}  // namespace tinyzh
