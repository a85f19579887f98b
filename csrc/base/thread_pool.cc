#include "base/thread_pool.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/fp_env.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tinyzh {
namespace {

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr int kSpins = 2000;  // some tens of microseconds: longer than the serial pieces between regions

}  // namespace

ThreadPool::ThreadPool(int threads) {
  try {
    for (int i = 1; i < threads; ++i)
      workers_.emplace_back([this, i] { work(static_cast<size_t>(i)); });
  } catch (const std::system_error& error) {  // leave none behind
    const size_t started = workers_.size() + 1;
    stop();
    fail(Code::backend, "the system starts no more threads (", started, " of ", threads, ": ", error.what(),
         "): ask for fewer with threads= or TINYZH_THREADS");
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  stopping_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::take_blocks(const BlockFunction& f, size_t worker) {
  // What is taken is done: the time is looked at before.
  for (size_t block; !late() && (block = next_block_.fetch_add(1, std::memory_order_relaxed)) < blocks_;)
    f(block, worker);
}

size_t ThreadPool::run_until(size_t first, size_t blocks, BlockFunction f, Clock::time_point deadline) {
  if (first >= blocks) return blocks;
  blocks_ = blocks;
  deadline_ = deadline;
  if (blocks - first == 1 || workers_.empty()) {
    next_block_.store(first + 1, std::memory_order_relaxed);
    f(first, 0);
    take_blocks(f, 0);
    return std::min(next_block_.load(std::memory_order_relaxed), blocks);
  }
  function_ = &f;
  next_block_.store(first + 1, std::memory_order_relaxed);
  region_.store(kOpen, std::memory_order_release);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  f(first, 0);  // at least one, however late it is
  take_blocks(f, 0);
  region_.fetch_and(~kOpen, std::memory_order_acq_rel);
  while (region_.load(std::memory_order_acquire) != 0) pause();
  return std::min(next_block_.load(std::memory_order_relaxed), blocks);
}

bool ThreadPool::enter() {
  uint32_t seen = region_.load(std::memory_order_acquire);
  while (seen & kOpen)
    if (region_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
  return false;
}

void ThreadPool::work(size_t worker) {
  const StandardFloatingPoint standard;
  uint32_t seen = 0;
  while (!stopping_.load()) {
    uint32_t now = epoch_.load(std::memory_order_acquire);
    for (int spin = 0; now == seen && spin < kSpins; ++spin) {
      pause();
      now = epoch_.load(std::memory_order_acquire);
    }
    if (now == seen) {
      epoch_.wait(seen, std::memory_order_acquire);
      continue;
    }
    seen = now;
    if (!enter()) continue;
    take_blocks(*function_, worker);
    region_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace tinyzh
