// Any header and table are a checkpoint whose tensors lie inside the bytes, or an Error(Code::checkpoint).
// Chance never makes a checksum right, nor forty offsets that follow from each other.  The checksum's field
// is therefore no checksum here: its bits say which other fields are made right, and then it is too.
// Seeds: tests/fuzz/corpus/tz, made by make_tz_corpus.py.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "io/tz.h"
#include "io/tz_layout.h"
#include "kernels/kernels.h"
#include "model/weights.h"

using namespace tinyzh;

namespace {

enum Repair : uint32_t { kOffsets = 1, kEqualLayers = 2, kVectors = 4, kLength = 8, kEntries = 16, kFileBytes = 32 };

template <class T>
T load(const std::vector<std::byte>& bytes, size_t offset) {
  T value;
  std::memcpy(&value, &bytes[offset], sizeof value);
  return value;
}

template <class T>
void store(std::vector<std::byte>& bytes, size_t offset, const T& value) {
  std::memcpy(&bytes[offset], &value, sizeof value);
}

// The entries that the file has, in their places; returns how many there should be.
uint32_t repair_table(std::vector<std::byte>& bytes, const Config& config, const TzHeader& header, uint32_t repairs) {
  uint32_t count = 0;
  for (size_t i = 0; i < kTensorCount; ++i)
    count += static_cast<uint32_t>(tensor_shape(config, static_cast<TensorId>(i)).layers);
  uint64_t end = sizeof(TzHeader) + uint64_t{count} * sizeof(TzEntry);
  size_t at = sizeof(TzHeader);
  for (size_t i = 0; i < kTensorCount; ++i) {
    const auto id = static_cast<TensorId>(i);
    uint64_t first = 0;
    for (size_t layer = 0; layer < tensor_shape(config, id).layers; ++layer, at += sizeof(TzEntry)) {
      if (at + sizeof(TzEntry) > bytes.size()) return count;
      TzEntry entry = tz_entry(config, static_cast<Packing>(header.dtype), header.group_size, id, layer);
      const auto found = load<TzEntry>(bytes, at);
      entry.checksum = found.checksum;
      entry.bytes = layer != 0 && repairs & kEqualLayers ? first : found.bytes;
      if (repairs & kVectors && entry.kind <= 1) entry.bytes = uint64_t{entry.rows} * entry.cols * sizeof(float);
      if (layer == 0) first = entry.bytes;
      entry.offset = tz_aligned(end);
      end = entry.offset + entry.bytes;
      store(bytes, at, entry);
    }
  }
  constexpr uint64_t kMost = 1 << 20;
  if (repairs & kLength && end <= kMost) bytes.resize(static_cast<size_t>(end));
  return count;
}

void repair(std::vector<std::byte>& bytes) {
  auto header = load<TzHeader>(bytes, 0);
  const uint32_t repairs = header.checksum;
  header.magic = kTzMagic;
  const Config config{header.dims[0], header.dims[1], header.dims[2],   header.dims[3],  header.dims[4],
                      header.dims[5], header.dims[6], header.tied == 1, header.norm_eps, header.rope_theta};
  if (header.dtype <= 2 && tz_problem(config, static_cast<Packing>(header.dtype), header.group_size).empty()) {
    if (repairs & kOffsets) {
      const uint32_t count = repair_table(bytes, config, header, repairs);
      if (repairs & kEntries) header.entries = count;
    }
    if (repairs & kFileBytes) header.file_bytes = bytes.size();
  }
  store(bytes, 0, header);
  store(bytes, offsetof(TzHeader, checksum), tz_checksum(bytes));
}

}  // namespace

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

// Every other time only the length of one tensor changes, and the rest follows: what is too short for its
// shape, or for the layers before it, must be refused.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned int seed) {
  constexpr size_t kTable = sizeof(TzHeader), kEntry = sizeof(TzEntry);
  if (seed % 2 == 0 || size < kTable + kEntry) return LLVMFuzzerMutate(data, size, most);
  uint32_t entries = 0;
  std::memcpy(&entries, data + offsetof(TzHeader, entries), sizeof entries);
  const size_t there = std::clamp<size_t>(entries, 1, (size - kTable) / kEntry);
  uint8_t* bytes = data + kTable + seed / 2 % there * kEntry + offsetof(TzEntry, bytes);
  LLVMFuzzerMutate(bytes, 2, 2);
  data[offsetof(TzHeader, checksum)] = kOffsets | kVectors | kLength | kEntries | kFileBytes;
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> input(size);
  if (size != 0) std::memcpy(input.data(), data, size);
  if (size >= sizeof(TzHeader)) repair(input);
  AlignedBuffer<std::byte> buffer(input.size());
  if (!input.empty()) std::memcpy(buffer.data(), input.data(), input.size());
  const std::span<const std::byte> bytes = buffer;
  static ThreadPool pool(1);
  try {
    const Checkpoint checkpoint = parse_checkpoint(bytes, "input");
    if (checkpoint.format != Format::tz) return 0;
    for (const TensorView& t : checkpoint.tensors)
      for (size_t layer = 0; layer < t.shape.layers; ++layer) {
        const auto packed = t.packed(layer);
        if (packed.data() < bytes.data() || packed.data() + packed.size() > bytes.data() + bytes.size()) std::abort();
      }
    const Weights weights(checkpoint, own_dtype(checkpoint), choose_kernels("scalar"), pool);
    for (const Matrix* m : {&weights.tok_emb, &weights.layers.back().w2, &weights.wcls()}) {
      std::vector<float> row(m->cols);
      m->row(m->rows - 1, row.data());
    }
    verify_tz(bytes, "input");
  } catch (const Error& error) {
    if (error.code() != Code::checkpoint) std::abort();
  }
  return 0;
}
