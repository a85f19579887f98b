// Any bytes are a checkpoint or an Error(Code::checkpoint); the views of a checkpoint lie inside the
// bytes.  Seeds: tests/fuzz/corpus/checkpoint, made by make_corpus.py.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/foreign.h"

using namespace tinyzh;

namespace {

volatile unsigned char sink;

void touch(const std::byte* data, size_t size) {
  if (size == 0) std::abort();
  sink = std::to_integer<unsigned char>(data[0]);
  sink = std::to_integer<unsigned char>(data[size - 1]);
}

void touch(const TensorView& tensor) {
  const size_t size = tensor.shape.size();
  for (size_t layer = 0; layer < tensor.shape.layers; ++layer) {
    const std::byte* data = tensor.data + layer * tensor.layer_stride;
    touch(data, tensor.quantised ? size : size * sizeof(float));
    if (tensor.quantised) touch(tensor.scales(layer), size / tensor.group_size * sizeof(float));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size));
  describe_foreign(bytes);
  try {
    const Checkpoint checkpoint = parse_checkpoint(bytes, "input");
    for (const TensorView& tensor : checkpoint.tensors) touch(tensor);
    if (checkpoint.parameters() == 0 || checkpoint.parameters() > size) std::abort();
  } catch (const Error& error) {
    if (error.code() != Code::checkpoint) std::abort();
  }
  return 0;
}
