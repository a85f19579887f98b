// Fibers of POSIX, and how the threads of a block take turns.
#undef _FORTIFY_SOURCE  // its longjmp takes another stack for a mistake
#include "cuda/emulation.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <exception>
#include <list>
#include <memory>
#include <numeric>
#include <random>

#include "base/half.h"

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
#if defined(TINYZH_ADDRESS_SANITIZER) || defined(TINYZH_THREAD_SANITIZER)
#define TINYZH_SANITIZER
#endif

namespace tinyzh::cuda::emulation {
namespace {

constexpr size_t kStackBytes = 128 * 1024;

enum class State { fresh, ready, at_barrier, in_warp, done };
enum class Operation { barrier, exchange, product16, product_b16 };  // of a warp

class Block;
thread_local Block* running = nullptr;
thread_local Schedule schedule;

// A stack on which threads of blocks run, one after another.  It is used again and again: making one takes longer
// than most threads.
class Stack {
 public:
  Stack();
  ~Stack() {
#ifdef TINYZH_THREAD_SANITIZER
    __tsan_destroy_fiber(tsan_);
#endif
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void go();     // from the scheduler onto it, until it comes back
  void leave();  // back to the scheduler

 private:
  static void enter();

  std::unique_ptr<std::byte[]> memory_ = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
  ucontext_t context_, scheduler_;
#ifndef TINYZH_SANITIZER
  jmp_buf here_, back_;  // the same places, without the system call that ucontext makes
  bool begun_ = false;
#endif
  // What the sanitizers want to know again.
  [[maybe_unused]] void* tsan_ = nullptr;
  [[maybe_unused]] void* tsan_scheduler_ = nullptr;
  [[maybe_unused]] const void* scheduler_stack_ = nullptr;
  [[maybe_unused]] size_t scheduler_stack_bytes_ = 0;
};

// Stacks that no thread runs on.
std::vector<std::unique_ptr<Stack>>& free_stacks() {
  thread_local std::vector<std::unique_ptr<Stack>> stacks;
  return stacks;
}

struct Fiber {
  State state = State::fresh;
  std::unique_ptr<Stack> stack;  // from its start to its end
  uint32_t mask = 0;             // in_warp: who takes part
  Operation operation = Operation::barrier;
  uint64_t given = 0, received = 0;
  unsigned from = 0;             // the lane whose value is received
  float* c = nullptr;            // of a product
  const uint32_t *a = nullptr, *b = nullptr;
  int syncs = 0;                 // of its warp so far
};

class Block {
 public:
  Block(Dim3 shape, const std::function<void()>& kernel) : shape_(shape), kernel_(kernel), fibers_(count()) {}
  ~Block() {
    for (Fiber& fiber : fibers_)  // after a fault; the stack of one that still waits cannot be used again
      if (fiber.stack && fiber.state == State::done) free_stacks().push_back(std::move(fiber.stack));
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void run(Order order, std::mt19937_64& random);

  // ---- called by the running fiber
  void run_thread() {
    try {
      kernel_();
    } catch (...) {  // it may not cross the border between fibers
      if (!thrown_) thrown_ = std::current_exception();
    }
    self().state = State::done;
  }
  void wait_for_block() { wait(State::at_barrier); }
  void wait_for_warp(uint32_t mask, Operation operation) {
    if (!(mask >> lane() & 1)) fault("a thread that is not in the mask takes part in an operation of its warp");
    self().mask = mask;
    self().operation = operation;
    wait(State::in_warp);
  }
  Fiber& self() { return fibers_[current_]; }
  unsigned lane() const { return static_cast<unsigned>(current_ % kWarp); }
  int thread() const { return static_cast<int>(current_); }
  int barriers() const { return barriers_; }
  Cells& cells(void* key, size_t count, size_t size);

 private:
  size_t count() const { return size_t{shape_.x} * shape_.y * shape_.z; }
  void resume(size_t i);
  void wait(State state) {
    self().state = state;
    self().stack->leave();
  }
  bool release_warps();
  bool release_block();
  void finish(Operation operation, Fiber* lanes, uint32_t mask);

  const Dim3 shape_;
  const std::function<void()>& kernel_;
  std::vector<Fiber> fibers_;
  std::list<Cells> shared_;
  size_t current_ = 0;
  int barriers_ = 0;
  std::exception_ptr thrown_;
};

Stack::Stack() {
  getcontext(&context_);
  context_.uc_stack.ss_sp = memory_.get();
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, &Stack::enter, 0);
#ifdef TINYZH_THREAD_SANITIZER
  tsan_ = __tsan_create_fiber(0);
#endif
}

void Stack::enter() {
#ifdef TINYZH_ADDRESS_SANITIZER
  Stack& self = *running->self().stack;
  __sanitizer_finish_switch_fiber(nullptr, &self.scheduler_stack_, &self.scheduler_stack_bytes_);
#endif
  for (;;) {  // a thread each time that the scheduler comes
    running->run_thread();
    running->self().stack->leave();
  }
}

void Stack::go() {
#ifdef TINYZH_SANITIZER
  [[maybe_unused]] void* kept = nullptr;
#ifdef TINYZH_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&kept, memory_.get(), kStackBytes);
#endif
#ifdef TINYZH_THREAD_SANITIZER
  tsan_scheduler_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_, 0);
#endif
  swapcontext(&scheduler_, &context_);
#ifdef TINYZH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
#endif
#else
  if (_setjmp(back_) != 0) return;
  if (begun_) _longjmp(here_, 1);
  begun_ = true;
  swapcontext(&scheduler_, &context_);
#endif
}

void Stack::leave() {
#ifdef TINYZH_SANITIZER
  [[maybe_unused]] void* kept = nullptr;
#ifdef TINYZH_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&kept, scheduler_stack_, scheduler_stack_bytes_);
#endif
#ifdef TINYZH_THREAD_SANITIZER
  __tsan_switch_to_fiber(tsan_scheduler_, 0);
#endif
  swapcontext(&context_, &scheduler_);
#ifdef TINYZH_ADDRESS_SANITIZER
  __sanitizer_finish_switch_fiber(kept, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
#else
  if (_setjmp(here_) == 0) _longjmp(back_, 1);
#endif
}

void put_in_order(std::vector<size_t>& items, Order order, std::mt19937_64& random) {
  std::sort(items.begin(), items.end());
  if (order == Order::reverse) std::reverse(items.begin(), items.end());
  if (order == Order::random) std::shuffle(items.begin(), items.end(), random);
}

void Block::resume(size_t i) {
  current_ = i;
  const unsigned n = static_cast<unsigned>(i);
  threadIdx = n < shape_.x ? Dim3{n, 0, 0} : Dim3{n % shape_.x, n / shape_.x % shape_.y, n / shape_.x / shape_.y};
  Fiber& fiber = fibers_[i];
  if (!fiber.stack) {
    std::vector<std::unique_ptr<Stack>>& free = free_stacks();
    if (free.empty()) free.push_back(std::make_unique<Stack>());
    fiber.stack = std::move(free.back());
    free.pop_back();
  }
  fiber.stack->go();
  if (fiber.state == State::done) free_stacks().push_back(std::move(fiber.stack));
}

float widened(Operation operation, uint32_t pair, unsigned half) {
  const auto bits = static_cast<uint16_t>(pair >> 16 * half);
  if (operation == Operation::product16) return from_half(bits);
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

// What the operation gives to those who take part: lanes is the first of the warp.
void Block::finish(Operation operation, Fiber* lanes, uint32_t mask) {
  const auto each = [&](const auto& f) {
    for (unsigned lane = 0; lane < kWarp; ++lane)
      if (mask >> lane & 1) f(lanes[lane]);
  };
  switch (operation) {
    case Operation::barrier: return each([](Fiber& fiber) { ++fiber.syncs; });  // nothing else orders memory
    case Operation::exchange:
      return each([&](Fiber& fiber) { fiber.received = mask >> fiber.from & 1 ? lanes[fiber.from].given : fiber.given; });
    case Operation::product16:
    case Operation::product_b16: break;
  }
  float A[16][16], B[16][8];
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned half = 0; half < 2; ++half) {
      const unsigned row = lane / 4, k = lane % 4 * 2 + half;
      for (unsigned i = 0; i < 4; ++i) A[row + i % 2 * 8][k + i / 2 * 8] = widened(operation, lanes[lane].a[i], half);
      for (unsigned i = 0; i < 2; ++i) B[k + i * 8][row] = widened(operation, lanes[lane].b[i], half);
    }
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned i = 0; i < 4; ++i)
      for (unsigned k = 0; k < 16; ++k)
        lanes[lane].c[i] = std::fma(A[lane / 4 + i / 2 * 8][k], B[k][lane % 4 * 2 + i % 2], lanes[lane].c[i]);
}

bool Block::release_warps() {
  bool released = false;
  for (size_t i = 0; i < fibers_.size(); ++i) {
    if (fibers_[i].state != State::in_warp) continue;
    uint32_t mask = fibers_[i].mask;
    const Operation operation = fibers_[i].operation;
    Fiber* const lanes = &fibers_[i / kWarp * kWarp];
    if (const size_t here = fibers_.size() - i / kWarp * kWarp; here < kWarp) mask &= (1u << here) - 1;
    if (operation >= Operation::product16 && mask != ~0u) fault("a product of fragments without a whole warp");
    bool all = true;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if (!(mask >> lane & 1)) continue;
      const Fiber& other = lanes[lane];
      if (other.state == State::done) fault("a thread has left, and an operation of its warp waits for it");
      if (other.state != State::in_warp) all = false;
      else if (other.mask != fibers_[i].mask || other.operation != operation)
        fault("threads of a warp wait in different operations for each other");
    }
    if (!all) continue;
    finish(operation, lanes, mask);
    for (unsigned lane = 0; lane < kWarp; ++lane)
      if (mask >> lane & 1) lanes[lane].state = State::ready;
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
  std::vector<size_t> ready;
  for (;;) {
    ready.clear();
    size_t done = 0;
    for (size_t i = 0; i < fibers_.size(); ++i) {
      if (fibers_[i].state <= State::ready) ready.push_back(i);
      done += fibers_[i].state == State::done;
    }
    if (done == fibers_.size()) return;
    if (order != Order::forward) put_in_order(ready, order, random);
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

}  // namespace

void fault(const std::string& what) { throw Fault(what); }

void set_schedule(Schedule wanted) { schedule = wanted; }

void launch(Dim3 grid, Dim3 shape, const std::function<void()>& kernel) {
  const size_t threads = size_t{shape.x} * shape.y * shape.z;
  if (threads == 0 || threads > 1024) fault("a block of " + std::to_string(threads) + " threads");
  std::mt19937_64 random(schedule.seed);
  std::vector<size_t> blocks(size_t{grid.x} * grid.y * grid.z);
  if (blocks.empty()) fault("a grid without blocks");
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

void warp_barrier(uint32_t mask) { block().wait_for_warp(mask, Operation::barrier); }

uint64_t exchange(uint32_t mask, uint64_t value, unsigned from) {
  Fiber& self = block().self();
  self.given = value;
  self.from = from;
  block().wait_for_warp(mask, Operation::exchange);
  return self.received;
}

void multiply_add(Half type, float* c, const uint32_t* a, const uint32_t* b) {
  Fiber& self = block().self();
  self.c = c;
  self.a = a;
  self.b = b;
  block().wait_for_warp(~0u, type == Half::float16 ? Operation::product16 : Operation::product_b16);
}

unsigned lane() { return block().lane(); }

Cells& cells(void* key, size_t count, size_t size) { return block().cells(key, count, size); }

Moment now() {
  Block& b = block();
  return {b.thread(), b.barriers(), b.self().syncs};
}

}  // namespace tinyzh::cuda::emulation
