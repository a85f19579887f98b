#include "cuda/emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <exception>
#include <list>
#include <memory>
#include <numeric>
#include <random>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TINYZH_ADDRESS_SANITIZER
#endif
#if __has_feature(thread_sanitizer)
#define TINYZH_THREAD_SANITIZER
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TINYZH_ADDRESS_SANITIZER
#endif
#if defined(__SANITIZE_THREAD__)
#define TINYZH_THREAD_SANITIZER
#endif

#ifdef TINYZH_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef TINYZH_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#endif

namespace tinyzh::cuda::emulation {
namespace {

constexpr size_t kStack = 128 * 1024;  // bytes of a fiber's

enum class State { ready, at_barrier, in_warp, done };

struct Fiber {
  ucontext_t context;
  State state = State::ready;
  Dim3 index;
  uint32_t mask = 0;        // in_warp: who takes part
  bool exchanges = false;   // in_warp: an exchange, else a barrier of the warp
  uint64_t given = 0;
  std::array<uint64_t, kWarp> received = {};
  int syncs = 0;            // of its warp so far
  void* sanitizer = nullptr;
};

class Block {
 public:
  Block(Dim3 shape, const std::function<void()>& kernel) : shape_(shape), kernel_(kernel), fibers_(count()) {
    stacks_ = std::make_unique_for_overwrite<std::byte[]>(fibers_.size() * kStack);
  }
  ~Block() {
#ifdef TINYZH_THREAD_SANITIZER
    for (Fiber& fiber : fibers_)
      if (fiber.sanitizer) __tsan_destroy_fiber(fiber.sanitizer);
#endif
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void run(Order order, std::mt19937_64& random);

  // ---- called by the running fiber
  void wait_for_block() { wait(State::at_barrier); }
  void wait_for_warp(uint32_t mask, bool exchanges, uint64_t given) {
    Fiber& self = fibers_[current_];
    if (!(mask >> lane() & 1)) fault("a thread that is not in the mask takes part in an operation of its warp");
    self.mask = mask;
    self.exchanges = exchanges;
    self.given = given;
    wait(State::in_warp);
  }
  const Fiber& self() const { return fibers_[current_]; }
  unsigned lane() const { return static_cast<unsigned>(current_ % kWarp); }
  int thread() const { return static_cast<int>(current_); }
  int barriers() const { return barriers_; }
  Cells& cells(void* key, size_t count, size_t size);

 private:
  size_t count() const { return size_t{shape_.x} * shape_.y * shape_.z; }
  std::byte* stack(size_t i) const { return stacks_.get() + i * kStack; }
  static void enter();
  void start(size_t i);
  void resume(size_t i);
  void leave(bool for_good);
  void wait(State state) {
    fibers_[current_].state = state;
    leave(false);
  }
  bool release_warps();
  bool release_block();

  const Dim3 shape_;
  const std::function<void()>& kernel_;
  std::vector<Fiber> fibers_;
  std::unique_ptr<std::byte[]> stacks_;
  std::list<Cells> shared_;
  ucontext_t scheduler_;
  // What the sanitizers want to know again.
  [[maybe_unused]] void* scheduler_sanitizer_ = nullptr;
  [[maybe_unused]] const void* scheduler_stack_ = nullptr;
  [[maybe_unused]] size_t scheduler_stack_size_ = 0;
  size_t current_ = 0;
  int barriers_ = 0;
  std::exception_ptr thrown_;
};

thread_local Block* running = nullptr;
thread_local Schedule schedule;

void put_in_order(std::vector<size_t>& items, Order order, std::mt19937_64& random) {
  std::sort(items.begin(), items.end());
  if (order == Order::reverse) std::reverse(items.begin(), items.end());
  if (order == Order::random) std::shuffle(items.begin(), items.end(), random);
}

void Block::enter() {
  Block& block = *running;
#ifdef TINYZH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack_, &block.scheduler_stack_size_);
#endif
  try {
    block.kernel_();
  } catch (...) {  // it may not cross the border between fibers
    if (!block.thrown_) block.thrown_ = std::current_exception();
  }
  block.fibers_[block.current_].state = State::done;
  block.leave(true);
}

void Block::start(size_t i) {
  Fiber& fiber = fibers_[i];
  const unsigned n = static_cast<unsigned>(i);
  fiber.index = {n % shape_.x, n / shape_.x % shape_.y, n / shape_.x / shape_.y};
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack(i);
  fiber.context.uc_stack.ss_size = kStack;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, &Block::enter, 0);
#ifdef TINYZH_THREAD_SANITIZER
  fiber.sanitizer = __tsan_create_fiber(0);
#endif
}

void Block::resume(size_t i) {
  current_ = i;
  threadIdx = fibers_[i].index;
#ifdef TINYZH_ADDRESS_SANITIZER
  void* kept;
  __sanitizer_start_switch_fiber(&kept, stack(i), kStack);
#endif
#ifdef TINYZH_THREAD_SANITIZER
  scheduler_sanitizer_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fibers_[i].sanitizer, 0);
#endif
  swapcontext(&scheduler_, &fibers_[i].context);
#ifdef TINYZH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
#endif
}

void Block::leave(bool for_good) {
  Fiber& fiber = fibers_[current_];
#ifdef TINYZH_ADDRESS_SANITIZER
  void* kept = nullptr;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &kept, scheduler_stack_, scheduler_stack_size_);
#endif
#ifdef TINYZH_THREAD_SANITIZER
  __tsan_switch_to_fiber(scheduler_sanitizer_, 0);
#endif
  (void)for_good;
  swapcontext(&fiber.context, &scheduler_);
#ifdef TINYZH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(kept, &scheduler_stack_, &scheduler_stack_size_);
#endif
}

bool Block::release_warps() {
  bool released = false;
  for (size_t i = 0; i < fibers_.size(); ++i) {
    if (fibers_[i].state != State::in_warp) continue;
    const uint32_t mask = fibers_[i].mask;
    const size_t first = i / kWarp * kWarp;
    const auto takes_part = [&](unsigned lane) { return (mask >> lane & 1) != 0 && first + lane < fibers_.size(); };
    bool all = true;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if (!takes_part(lane)) continue;
      const Fiber& other = fibers_[first + lane];
      if (other.state == State::done) fault("a thread has left, and an operation of its warp waits for it");
      if (other.state != State::in_warp) all = false;
      else if (other.mask != mask || other.exchanges != fibers_[i].exchanges)
        fault("threads of a warp wait in different operations for each other");
    }
    if (!all) continue;
    std::array<uint64_t, kWarp> given = {};
    for (unsigned lane = 0; lane < kWarp; ++lane)
      if (takes_part(lane)) given[lane] = fibers_[first + lane].given;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if (!takes_part(lane)) continue;
      Fiber& other = fibers_[first + lane];
      other.received = given;
      if (!other.exchanges) ++other.syncs;  // only a barrier orders memory
      other.state = State::ready;
    }
    released = true;
  }
  return released;
}

bool Block::release_block() {
  size_t waiting = 0, done = 0;
  for (const Fiber& fiber : fibers_) {
    waiting += fiber.state == State::at_barrier;
    done += fiber.state == State::done;
  }
  if (waiting > 0 && done > 0) fault("a thread has left, and a barrier waits for it");
  if (waiting != fibers_.size()) return false;
  ++barriers_;
  for (Fiber& fiber : fibers_) fiber.state = State::ready;
  return true;
}

void Block::run(Order order, std::mt19937_64& random) {
  running = this;
  struct Reset {
    ~Reset() { running = nullptr; }
  } reset;
  for (size_t i = 0; i < fibers_.size(); ++i) start(i);
  for (;;) {
    std::vector<size_t> ready;
    size_t done = 0;
    for (size_t i = 0; i < fibers_.size(); ++i) {
      if (fibers_[i].state == State::ready) ready.push_back(i);
      done += fibers_[i].state == State::done;
    }
    if (done == fibers_.size()) return;
    put_in_order(ready, order, random);
    for (size_t i : ready) {
      resume(i);
      if (thrown_) std::rethrow_exception(thrown_);
    }
    const bool warps = release_warps(), block = release_block();
    if (ready.empty() && !warps && !block)
      fault("some threads wait at a barrier and others in an operation of their warp, for ever");
  }
}

Cells& Block::cells(void* key, size_t count, size_t size) {
  for (Cells& known : shared_)
    if (known.key == key) return known;
  shared_.push_back({key, count, size, std::vector<std::byte>(count * size), std::vector<Cells::Touch>(count)});
  return shared_.back();
}

Block& block() {
  if (!running) throw std::logic_error("this belongs into a kernel");
  return *running;
}

Cells::Touch& touched(Cells& cells, size_t index) {
  if (index >= cells.count)
    fault("shared memory of " + std::to_string(cells.count) + " is touched at " + std::to_string(index));
  return cells.touches[index];
}

// Whether something that thread `other` did is certainly over: a barrier of the block lies between, or, within a
// warp, one of the warp.
bool is_over(int other, int barrier, int sync) {
  const Block& b = block();
  if (other == b.thread() || barrier < b.barriers()) return true;
  const int warp = static_cast<int>(kWarp);
  return other / warp == b.thread() / warp && sync < b.self().syncs;
}

}  // namespace

void fault(const std::string& what) { throw Fault(what); }

void set_schedule(Schedule wanted) { schedule = wanted; }

void launch(Dim3 grid, Dim3 shape, const std::function<void()>& kernel) {
  const size_t threads = size_t{shape.x} * shape.y * shape.z;
  if (threads == 0 || threads > 1024) fault("a block of " + std::to_string(threads) + " threads");
  std::mt19937_64 random(schedule.seed);
  std::vector<size_t> blocks(size_t{grid.x} * grid.y * grid.z);
  std::iota(blocks.begin(), blocks.end(), size_t{0});
  put_in_order(blocks, schedule.order, random);
  for (size_t i : blocks) {
    const unsigned n = static_cast<unsigned>(i);
    gridDim = grid;
    blockDim = shape;
    blockIdx = {n % grid.x, n / grid.x % grid.y, n / grid.x / grid.y};
    Block(shape, kernel).run(schedule.order, random);
  }
}

void barrier() { block().wait_for_block(); }

void warp_barrier(uint32_t mask) { block().wait_for_warp(mask, false, 0); }

uint64_t exchange(uint32_t mask, uint64_t value, unsigned from) {
  block().wait_for_warp(mask, true, value);
  return mask >> from & 1 ? block().self().received[from] : value;
}

unsigned lane() { return block().lane(); }

Cells& cells(void* key, size_t count, size_t size) { return block().cells(key, count, size); }

void touch_read(Cells& cells, size_t index) {
  Cells::Touch& t = touched(cells, index);
  Block& b = block();
  if (t.writer < 0) fault("shared memory is read at " + std::to_string(index) + ", where nothing was written");
  if (!is_over(t.writer, t.write_barrier, t.write_sync))
    fault("shared memory is read at " + std::to_string(index) + " without waiting for who writes it");
  const int warp = static_cast<int>(kWarp);
  if (t.read_barrier != b.barriers()) {
    t.many = t.many_warps = false;
    t.reader = b.thread();
    t.read_sync = b.self().syncs;
  } else if (t.reader != b.thread()) {
    t.many = true;
    t.many_warps |= t.reader / warp != b.thread() / warp;
    t.reader = b.thread();
    t.read_sync = std::max(t.read_sync, b.self().syncs);
  }
  t.read_barrier = b.barriers();
}

void touch_write(Cells& cells, size_t index) {
  Cells::Touch& t = touched(cells, index);
  Block& b = block();
  if (t.writer >= 0 && !is_over(t.writer, t.write_barrier, t.write_sync))
    fault("shared memory is written at " + std::to_string(index) + " by two threads at once");
  if (t.reader >= 0 && t.read_barrier == b.barriers()) {
    // Many readers are over like one, unless they were of several warps, which only the block's barrier orders.
    const int warp = static_cast<int>(kWarp);
    const bool own = !t.many && t.reader == b.thread();
    const bool warp_is_over =
        !t.many_warps && t.reader / warp == b.thread() / warp && t.read_sync < b.self().syncs;
    if (!own && !warp_is_over)
      fault("shared memory is written at " + std::to_string(index) + " without waiting for who reads it");
  }
  t.writer = b.thread();
  t.write_barrier = b.barriers();
  t.write_sync = b.self().syncs;
}

}  // namespace tinyzh::cuda::emulation
