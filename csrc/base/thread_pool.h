// Fork and join over numbered blocks.  Made for regions of ten to a few hundred microseconds, a hundred
// times a step: workers spin for a moment between regions, then sleep, so an idle model costs nothing.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace tinyzh {

// A borrowed callable void(size_t block, size_t worker), worker < threads() telling concurrent calls
// apart; the callable outlives the call it is passed to.
class BlockFunction {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, BlockFunction>)
  BlockFunction(F&& f)  // NOLINT: meant to be implicit
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, size_t block, size_t worker) {
          (*static_cast<std::remove_reference_t<F>*>(object))(block, worker);
        }) {}
  void operator()(size_t block, size_t worker) const { call_(object_, block, worker); }

 private:
  void* object_;
  void (*call_)(void*, size_t, size_t);
};

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // counting the caller; at least 1
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t threads() const { return workers_.size() + 1; }

  using Clock = std::chrono::steady_clock;
  static constexpr Clock::time_point kNever = Clock::time_point::max();

  // f(0, w) ... f(blocks - 1, w), each once, in any order, on the caller and the workers; returns when all
  // are done.  One caller at a time.  f must not throw.
  void run(size_t blocks, BlockFunction f) { run_until(0, blocks, f, kNever); }

  // The same from block `first` on, of which at least one is done and none is begun after the deadline.  Returns
  // how many are done, those before `first` counted: where to go on.
  size_t run_until(size_t first, size_t blocks, BlockFunction f, Clock::time_point deadline);

 private:
  void work(size_t worker);
  void stop();
  bool enter();
  void take_blocks(const BlockFunction& f, size_t worker);
  bool late() const { return deadline_ != kNever && Clock::now() >= deadline_; }

  // A region is open for workers between run()'s start and its last block.  A worker that comes late
  // finds it closed and stays out, so run() never waits for a thread that is still asleep.
  static constexpr uint32_t kOpen = 1u << 31;
  alignas(64) std::atomic<uint32_t> region_{0};   // kOpen | number of workers inside
  alignas(64) std::atomic<uint32_t> epoch_{0};    // grows with every region
  alignas(64) std::atomic<size_t> next_block_{0};
  size_t blocks_ = 0;
  Clock::time_point deadline_ = kNever;
  const BlockFunction* function_ = nullptr;
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

// Cores this process may really use: physical cores in its affinity mask, not more than the cgroup's
// CPU quota, at least 1.
int default_threads();

}  // namespace tinyzh
