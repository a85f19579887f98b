// Sequences that draw their tokens on the device.
#pragma once

#include <cstdint>
#include <vector>

#include "base/aligned.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "sample/sampler.h"

namespace tinyzh::cuda {

class Slots {
 public:
  Slots(size_t count, size_t vocab_size);

  // A free slot, which from the next pass in the queue on is at this place of the sequence; throws std::bad_alloc.
  // There must be one.
  int32_t open(const Queue& queue, const Drawing& drawing);
  void close(int32_t slot) { free_.push_back(slot); }

  Slot* data() { return slots_.data(); }

 private:
  struct Marks {  // of a slot, once it needed some; kept for the next sequence
    AlignedBuffer<uint32_t> here, there;
  };

  const size_t vocab_size_;
  AlignedBuffer<Slot> slots_;  // on the device
  // What is on its way there.  A slot that is opened again before its last copy began has that copy bring what the
  // next one brings too.
  AlignedBuffer<Slot> sent_;
  std::vector<Marks> marks_;
  std::vector<int32_t> free_;
};

}  // namespace tinyzh::cuda
