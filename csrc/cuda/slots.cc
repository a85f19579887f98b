#include "cuda/slots.h"

#include <algorithm>

#include "cuda/allocators.h"
#include "sample/random.h"

namespace tinyzh::cuda {

Slots::Slots(size_t count, size_t vocab_size)
    : vocab_size_(vocab_size), slots_(count, device_memory(), Fill::nothing), sent_(count, pinned_memory()), marks_(count) {
  for (size_t i = count; i-- > 0;) free_.push_back(static_cast<int32_t>(i));
}

int32_t Slots::open(const Queue& queue, const Drawing& d) {
  const SamplingParams& params = d.params;
  const int32_t index = free_.back();
  const auto at = static_cast<size_t>(index);
  Slot slot = {};
  const bool penalties = params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0;
  if (penalties || d.drawn.size() < d.banned_until) {
    Marks& marks = marks_[at];
    if (marks.here.size() == 0) marks.here = AlignedBuffer<uint32_t>(vocab_size_, pinned_memory());
    if (marks.there.size() == 0) marks.there = AlignedBuffer<uint32_t>(vocab_size_, device_memory(), Fill::nothing);
    std::fill_n(marks.here.data(), vocab_size_, 0);
    const auto mark = [&](std::span<const int32_t> tokens, const auto& f) {
      for (int32_t token : tokens) f(marks.here[static_cast<size_t>(token)]);
    };
    mark(d.prompt, [](uint32_t& m) { m |= kSeen; });
    mark(d.drawn, [](uint32_t& m) { m = (m | kSeen) + kOnce; });
    mark(d.banned, [](uint32_t& m) { m |= kBanned; });
    slot.marks = marks.there.data();
    queue.send(marks.there.data(), marks.here.data(), marks.here.bytes());
  }
  Random random(params.seed);
  for (size_t i = 0; i < d.drawn.size() && params.temperature != 0; ++i) random.next_u32();  // one a token
  slot.random = random.state();
  slot.temperature = params.temperature;
  slot.top_p = params.top_p;
  slot.min_p = params.min_p;
  slot.top_k = params.top_k;
  slot.repetition_penalty = params.repetition_penalty;
  slot.presence_penalty = params.presence_penalty;
  slot.frequency_penalty = params.frequency_penalty;
  slot.drawn = static_cast<uint32_t>(d.drawn.size());
  slot.banned_until = d.banned_until;
  sent_[at] = slot;
  queue.send(slots_.data() + at, sent_.data() + at, sizeof slot);
  free_.pop_back();
  return index;
}

}  // namespace tinyzh::cuda
