// The header and the table of a tz file as they lie in it; reader and writer both go by these structs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "io/checkpoint.h"

namespace tinyzh {

inline constexpr std::array<uint8_t, 8> kTzMagic = {0x89, 'T', 'Z', 'H', '\r', '\n', 0x1a, '\n'};

inline constexpr size_t kTzAlignment = 64;

// Where a tensor begins that comes after `offset` bytes of a file; also the room that so many bytes take.
inline uint64_t tz_aligned(uint64_t offset) { return (offset + kTzAlignment - 1) / kTzAlignment * kTzAlignment; }

struct TzHeader {
  std::array<uint8_t, 8> magic = kTzMagic;
  uint32_t version = 0;
  uint32_t checksum = 0;  // CRC-32 of header and table, this field taken as zero
  std::array<int32_t, 7> dims = {};
  uint32_t tied = 0;
  float norm_eps = 0;
  uint32_t dtype = 0;  // 0: float32, 1: int8, 2: int4
  double rope_theta = 0;
  uint32_t group_size = 0;  // int8: of the flattened matrix; 0: a scale for each row
  uint32_t entries = 0;
  uint64_t table_offset = 0;
  uint64_t file_bytes = 0;
  uint32_t numerics = 0;  // kNumericsVersion of the program that rounded the weights
  std::array<uint8_t, 164> zeros = {};
};
static_assert(sizeof(TzHeader) == 256 && offsetof(TzHeader, dims) == 16 && offsetof(TzHeader, rope_theta) == 56 &&
              offsetof(TzHeader, zeros) == 92);

struct TzEntry {
  uint32_t tensor = 0;
  uint32_t layer = 0;
  uint32_t kind = 0;  // 0: fp32 vector, 1: fp32 matrix, 2: int8 panels, 3: int4 groups
  uint32_t rows = 0, cols = 0;
  uint32_t group_size = 0;
  uint64_t offset = 0, bytes = 0;
  uint32_t checksum = 0;  // CRC-32 of these bytes
  std::array<uint8_t, 20> zeros = {};
  bool operator==(const TzEntry&) const = default;
};
static_assert(sizeof(TzEntry) == 64 && offsetof(TzEntry, offset) == 24 && offsetof(TzEntry, zeros) == 44);

// The entry of a tensor's layer but for offset, bytes and checksum.
TzEntry tz_entry(const Config& config, Packing packing, size_t group_size, TensorId id, size_t layer);

// What is wrong with a configuration, as header_problem; empty when nothing is.
std::string tz_problem(const Config& config, Packing packing, int64_t group_size);

}  // namespace tinyzh
