// The streams of the emulated GPU.  What is put into one waits there until the host waits for it, so that whoever
// reads a result too early, or changes what a copy has still to read, sees it go wrong every time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

namespace tinyzh::cuda::emulation {

class EmulatedStream {
 public:
  using Work = std::function<void()>;

  // For when somebody waits; while something is captured, for as often as that is replayed.
  void put(Work work);

  uint64_t given() const { return given_; }  // pieces of work so far, counting from 1
  bool is_over(uint64_t work) const { return done_ >= work; }
  void run_one();
  void run_until(uint64_t work) {  // throws what a piece throws: nothing that was waiting happens any more
    while (!is_over(work)) run_one();
  }

  void begin_capture() { capturing_ = true; }
  std::vector<Work> end_capture();

 private:
  std::deque<Work> waiting_;
  std::vector<Work> captured_;
  bool capturing_ = false;
  uint64_t given_ = 0, done_ = 0;
};

// A launch of a kernel: into the stream, or at once where there is none.
void put(void* stream, EmulatedStream::Work work);

// Launches that were run so far, on this thread.
size_t launches();
// The next one of this thread faults.
void fail_next_launch();

}  // namespace tinyzh::cuda::emulation
