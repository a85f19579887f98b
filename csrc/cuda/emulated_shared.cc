// The rules of shared memory: who touched what since which barrier.
#include "cuda/emulation.h"

#include <algorithm>
#include <string>

namespace tinyzh::cuda::emulation {
namespace {

int warp_of(int thread) { return thread / static_cast<int>(kWarp); }

Cells::Touch& touched(Cells& cells, size_t index) {
  if (index >= cells.count)
    fault("shared memory of " + std::to_string(cells.count) + " is touched at " + std::to_string(index));
  return cells.touches[index];
}

// Whether something that thread `other` did is certainly over: a barrier of the block lies between, or, within a
// warp, one of the warp.
bool is_over(int other, int barrier, int sync) {
  const Moment here = now();
  if (other == here.thread || barrier < here.barriers) return true;
  return warp_of(other) == warp_of(here.thread) && sync < here.syncs;
}

// Whether all that others wrote with atomic operations is over, or nobody else did.
bool atomics_are_over(const Cells::Touch& t) { return !t.many_atomics || t.write_barrier < now().barriers; }

void check_readers_are_over(const Cells::Touch& t, size_t index) {
  const Moment here = now();
  if (t.reader < 0 || t.read_barrier != here.barriers) return;
  // Many readers are over like one, unless they were of several warps, which only the block's barrier orders.
  const bool own = !t.many && t.reader == here.thread;
  const bool warp_is_over = !t.many_warps && warp_of(t.reader) == warp_of(here.thread) && t.read_sync < here.syncs;
  if (!own && !warp_is_over)
    fault("shared memory is written at " + std::to_string(index) + " without waiting for who reads it");
}

void note_write(Cells::Touch& t, bool atomic) {
  const Moment here = now();
  const bool others = t.atomic && t.write_barrier == here.barriers && (t.many_atomics || t.writer != here.thread);
  t.many_atomics = atomic && others;
  t.atomic = atomic;
  t.writer = here.thread;
  t.write_barrier = here.barriers;
  t.write_sync = here.syncs;
}

}  // namespace

void touch_read(Cells& cells, size_t index) {
  Cells::Touch& t = touched(cells, index);
  const Moment here = now();
  if (t.writer < 0) fault("shared memory is read at " + std::to_string(index) + ", where nothing was written");
  if (!is_over(t.writer, t.write_barrier, t.write_sync) || !atomics_are_over(t))
    fault("shared memory is read at " + std::to_string(index) + " without waiting for who writes it");
  if (t.read_barrier != here.barriers) {
    t.many = t.many_warps = false;
    t.reader = here.thread;
    t.read_sync = here.syncs;
  } else if (t.reader != here.thread) {
    t.many = true;
    t.many_warps |= warp_of(t.reader) != warp_of(here.thread);
    t.reader = here.thread;
    t.read_sync = std::max(t.read_sync, here.syncs);
  }
  t.read_barrier = here.barriers;
}

void touch_write(Cells& cells, size_t index) {
  Cells::Touch& t = touched(cells, index);
  if (t.writer >= 0 && (!is_over(t.writer, t.write_barrier, t.write_sync) || !atomics_are_over(t)))
    fault("shared memory is written at " + std::to_string(index) + " by two threads at once");
  check_readers_are_over(t, index);
  note_write(t, false);
}

void touch_atomic(Cells& cells, size_t index) {
  Cells::Touch& t = touched(cells, index);
  if (t.writer < 0) fault("shared memory is read at " + std::to_string(index) + ", where nothing was written");
  if (!t.atomic && !is_over(t.writer, t.write_barrier, t.write_sync))
    fault("shared memory is written at " + std::to_string(index) + " by two threads at once");
  check_readers_are_over(t, index);
  note_write(t, true);
}

}  // namespace tinyzh::cuda::emulation
