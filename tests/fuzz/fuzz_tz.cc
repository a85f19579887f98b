// Any header and table, given the right checksum (which a fuzzer would never find), are a checkpoint whose
// tensors lie inside the bytes, or an Error(Code::checkpoint).
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

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  AlignedBuffer<std::byte> buffer(size);
  if (size != 0) std::memcpy(buffer.data(), data, size);
  const std::span<std::byte> bytes = buffer;
  if (size >= sizeof(TzHeader)) {
    std::memcpy(bytes.data(), kTzMagic.data(), kTzMagic.size());
    const uint32_t checksum = tz_checksum(bytes);
    std::memcpy(&bytes[offsetof(TzHeader, checksum)], &checksum, sizeof checksum);
  }
  static ThreadPool pool(1);
  try {
    const Checkpoint checkpoint = parse_checkpoint(bytes, "input");
    if (checkpoint.format != Format::tz) return 0;
    for (const TensorView& t : checkpoint.tensors)
      for (size_t layer = 0; layer < t.shape.layers; ++layer) {
        const auto packed = t.packed(layer);
        if (packed.data() < bytes.data() || packed.data() + packed.size() > bytes.data() + size) std::abort();
      }
    const Weights weights(checkpoint, own_dtype(checkpoint), choose_kernels("scalar"), pool);
    std::vector<float> row(weights.tok_emb.cols);
    weights.tok_emb.row(weights.tok_emb.rows - 1, row.data());
    verify_tz(bytes, "input");
  } catch (const Error& error) {
    if (error.code() != Code::checkpoint) std::abort();
  }
  return 0;
}
