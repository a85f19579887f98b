// tinyzh's own container: a model as its kernels read it, used in place from the memory map.  Byte
// tables are in docs/formats.md.  This file knows offsets, sizes and checksums; what the bytes of a packed
// matrix mean is quant's business, which checks their number before it points at them.
//
// Tensors lie in one order (TensorId, layer), each from the next multiple of 64, without other gaps, so
// that nothing can overlap and a file has exactly one length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint.h"

namespace tinyzh {

inline constexpr uint32_t kTzVersion = 1;

bool is_tz(std::span<const std::byte> bytes);  // by its magic

// Checks header, table and their checksum, and no byte of the tensors.  Throws Error(Code::checkpoint).
Checkpoint parse_tz(std::span<const std::byte> bytes, std::string_view name);

// Reads all tensors and the zeros between them; throws Error(Code::checkpoint) that names the first one
// that is not what was written.
void verify_tz(std::span<const std::byte> bytes, std::string_view name);

// What the checksum field must hold, for the header and the table as they are.  For bytes whose table
// does not fit: that of the header alone.
uint32_t tz_checksum(std::span<const std::byte> bytes);

// One layer of a tensor, ready to be written: the bytes of the kernels' layout, in two pieces.
struct TzPart {
  TensorId id;
  size_t layer;
  std::span<const std::byte> first, second = {};
};

// `parts` in the order of the file.  Matrices are packed as `packing` says; group_size 0: a scale for each
// row.  The file appears when it is whole.  progress(done, total) is told the parts written.  Throws Error:
// invalid_argument, file.
void write_tz(const std::string& path, const Config& config, Packing packing, size_t group_size,
              std::span<const TzPart> parts, const std::function<void(size_t, size_t)>& progress = {});

}  // namespace tinyzh
