#include "cuda/emulated_stream.h"

#include <utility>

#include "cuda/emulation.h"

namespace tinyzh::cuda::emulation {
namespace {

thread_local size_t launched = 0;
thread_local bool fails_next = false;

}  // namespace

void EmulatedStream::put(Work work) {
  if (capturing_) {
    captured_.push_back(std::move(work));
    return;
  }
  waiting_.push_back(std::move(work));
  ++given_;
}

void EmulatedStream::run_one() {
  const Work work = std::move(waiting_.front());
  waiting_.pop_front();
  ++done_;
  try {
    work();
  } catch (...) {
    waiting_.clear();
    done_ = given_;
    throw;
  }
}

std::vector<EmulatedStream::Work> EmulatedStream::end_capture() {
  capturing_ = false;
  return std::exchange(captured_, {});
}

void put(void* stream, EmulatedStream::Work work) {
  auto counted = [work = std::move(work)] {
    ++launched;
    if (std::exchange(fails_next, false)) fault("this launch was to fail");
    work();
  };
  if (stream) static_cast<EmulatedStream*>(stream)->put(std::move(counted));
  else counted();
}

size_t launches() { return launched; }

void fail_next_launch() { fails_next = true; }

}  // namespace tinyzh::cuda::emulation
