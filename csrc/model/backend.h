// Where forward passes are computed: the processor (model/forward.h) or a GPU (cuda/forward.h), with the same bits.
// A row is one token of one sequence at one position; a pass has any number of them, of one sequence or of many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/allocator.h"
#include "base/thread_pool.h"
#include "sample/drawn.h"
#include "sample/sampler.h"

namespace tinyzh {

struct Row {
  int32_t token;             // or ~slot: the one that this slot drew last
  int32_t position;
  std::byte* const* blocks;  // table of the row's sequence, the same for all its rows; reaches this position, and
                             // the positions before are there or in this pass
  bool wants_logits;
  int32_t draws_to = -1;     // the slot that draws a token from the logits of this row; -1: none
};

// One named intermediate of one layer (-1 outside the layers): (rows, cols) with a stride.
struct Intermediate {
  const char* name;
  int layer;
  const float* data;
  size_t rows, cols, stride;
};
using Observer = std::function<void(const Intermediate&)>;

class Backend {
 public:
  virtual ~Backend() = default;

  virtual size_t max_rows() const = 0;  // of one pass

  // logits (rows that want them, vocab_size), in the order of the rows, of which there are at most
  // max_rows().  Tokens and positions must be valid.  Throws std::bad_alloc; nothing is computed then.
  virtual void run(std::span<const Row> rows, float* logits, const Observer& observer = {}) = 0;

  // The same in pieces: begin, then proceed until it says that the pass is over, none begun after the deadline.
  // Rows and logits stay until the end.
  virtual void begin(std::span<const Row> rows, float* logits) = 0;
  virtual bool proceed(ThreadPool::Clock::time_point deadline) = 0;
  // Several passes may be under way, if depth() says so: they end in the order in which they began, and proceed() works
  // on the oldest.
  virtual size_t depth() const { return 1; }
  // All passes under way are given up, and nobody touches their rows and logits any more.
  virtual void abandon() noexcept = 0;

  // Drawing tokens where the logits are.  A slot is a sequence that does so; what it draws is computed from what it has
  // drawn, so that a pass can be begun before the one that draws its tokens is over.
  virtual bool can_draw() const { return false; }
  // Throws std::bad_alloc.  At most max_rows() slots are open.
  virtual int32_t open_slot(const Drawing&) { return -1; }
  virtual void close_slot(int32_t) {}  // passes under way may still draw to it
  // What the rows of the pass drew that proceed() said is over, in their order; until the next call.
  virtual std::span<const Drawn> drawn() const { return {}; }

  // Where the blocks of keys and values must lie, how much of that is free, and how one becomes the copy of another.
  virtual const Allocator& block_memory() const = 0;
  virtual size_t free_memory() const = 0;  // bytes
  virtual void copy_block(std::byte* to, const std::byte* from, size_t bytes) const = 0;
};

}  // namespace tinyzh
