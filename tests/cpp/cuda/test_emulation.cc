// The emulated GPU runs what is right, and finds what a real one might forgive today.
#include <doctest/doctest.h>

#include <bit>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/half.h"
#include "cuda/device.h"
#include "cuda/memory.h"

using namespace tinyzh::cuda;
using emulation::Order;

namespace {

const emulation::Schedule kSchedules[] = {
    {Order::forward}, {Order::reverse}, {Order::random, 1}, {Order::random, 2}, {Order::random, 3}};

// Runs a kernel in every order.
template <class Kernel>
void in_every_order(Dim3 grid, Dim3 block, const Kernel& kernel) {
  for (const emulation::Schedule& schedule : kSchedules) {
    emulation::set_schedule(schedule);
    emulation::launch(grid, block, kernel);
  }
  emulation::set_schedule({});
}

// The faults of a kernel in each order; "" where it had none.
template <class Kernel>
std::vector<std::string> faults(Dim3 grid, Dim3 block, const Kernel& kernel) {
  std::vector<std::string> found;
  for (const emulation::Schedule& schedule : kSchedules) {
    emulation::set_schedule(schedule);
    try {
      emulation::launch(grid, block, kernel);
      found.emplace_back();
    } catch (const emulation::Fault& fault) {
      found.emplace_back(fault.what());
    }
  }
  emulation::set_schedule({});
  return found;
}

template <class Kernel>
void every_order_faults(const char* words, Dim3 block, const Kernel& kernel) {
  for (const std::string& found : faults({}, block, kernel)) {
    CAPTURE(found);
    CHECK(found.find(words) != std::string::npos);
  }
}

unsigned thread() { return threadIdx.x + threadIdx.y * blockDim.x; }

}  // namespace

TEST_CASE("emulation: every thread of every block runs once, with its indices") {
  std::vector<int> runs(3 * 2 * 70);
  in_every_order({3, 2}, {35, 2}, [&] {
    REQUIRE((gridDim.x == 3 && gridDim.y == 2 && blockDim.x == 35 && blockDim.y == 2));
    ++runs[(blockIdx.x + blockIdx.y * 3) * 70 + thread()];
  });
  for (int n : runs) CHECK(n == 5);
}

TEST_CASE("emulation: the order of threads is what was asked for") {
  const auto order_of = [](emulation::Schedule schedule) {
    std::vector<unsigned> order;
    emulation::set_schedule(schedule);
    emulation::launch({}, {64}, [&] { order.push_back(threadIdx.x); });
    emulation::set_schedule({});
    return order;
  };
  const std::vector<unsigned> forward = order_of({Order::forward}), reverse = order_of({Order::reverse});
  const std::vector<unsigned> random = order_of({Order::random, 1}), other = order_of({Order::random, 2});
  CHECK(forward.front() == 0);
  CHECK(reverse.front() == 63);
  CHECK(random != forward);
  CHECK(random != other);
  CHECK(random == order_of({Order::random, 1}));
}

TEST_CASE("emulation: a barrier lets everybody see what was written before it") {
  in_every_order({2}, {96}, [] {
    TINYZH_SHARED(int, values, 96);
    for (int round = 0; round < 3; ++round) {
      values[thread()] = static_cast<int>(thread()) + round;
      __syncthreads();
      CHECK(values[95 - thread()] == 95 - static_cast<int>(thread()) + round);
      __syncthreads();
    }
  });
}

TEST_CASE("emulation: lanes exchange values") {
  in_every_order({}, {64}, [] {
    const unsigned lane = thread() % kWarp;
    CHECK(__shfl_sync(~0u, 100.0f + static_cast<float>(thread()), 5) == 100.0f + static_cast<float>(thread() - lane + 5));
    CHECK(__shfl_xor_sync(~0u, lane, 3) == (lane ^ 3));
    double sum = lane;
    for (unsigned step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    CHECK(sum == 31 * 16);
    if (lane < 8) CHECK(__shfl_xor_sync(0xffu, lane, 1) == (lane ^ 1));  // a part of the warp
    if (lane == 9) CHECK(__shfl_sync(1u << 9, 7, 3) == 7);               // who is not in the mask gives nothing
  });
}

TEST_CASE("emulation: a barrier of a warp orders its shared memory") {
  in_every_order({}, {64}, [] {
    TINYZH_SHARED(unsigned, values, 64);
    const unsigned warp = thread() / kWarp * kWarp, lane = thread() % kWarp;
    values[thread()] = lane;
    __syncwarp();
    CHECK(values[warp + (lane + 1) % kWarp] == (lane + 1) % kWarp);
    __syncwarp();
    values[thread()] = lane + 1;
    __syncwarp();
    CHECK(values[warp + 31 - lane] == 32 - lane);
  });
}

TEST_CASE("emulation: a missing barrier is a fault in every order, also where the values would be right") {
  for (const std::string& found : faults({}, {64}, [] {
         TINYZH_SHARED(int, values, 64);
         values[thread()] = 1;
         (void)static_cast<int>(values[63 - thread()]);
       }))
    CHECK(found != "");
  every_order_faults("without waiting for who writes", {64}, [] {  // a warp's barrier is not the block's
    TINYZH_SHARED(int, values, 64);
    values[thread()] = 1;
    __syncthreads();
    if (thread() < 32) values[thread()] = 1;
    for (int i = 0; i < 9; ++i) __syncwarp();
    if (thread() >= 32) {
      for (int i = 0; i < 9; ++i) __syncwarp();
      (void)static_cast<int>(values[63 - thread()]);
    }
  });
}

TEST_CASE("emulation: writing while others may still read is a fault") {
  const auto late = [](bool with_barrier) {
    return [with_barrier] {
      TINYZH_SHARED(int, value, 1);
      if (thread() == 0) value[0] = 1;
      __syncthreads();
      (void)static_cast<int>(value[0]);
      if (with_barrier) __syncthreads();
      if (thread() == 0) value[0] = 2;
    };
  };
  for (const std::string& found : faults({}, {64}, late(true))) CHECK(found == "");
  size_t caught = 0;
  for (const std::string& found : faults({}, {64}, late(false))) caught += found != "";
  CHECK(caught == 5);
}

TEST_CASE("emulation: an exchange of lanes does not order shared memory") {
  size_t caught = 0;
  for (const std::string& found : faults({}, {32}, [] {
         TINYZH_SHARED(int, values, 32);
         values[thread()] = 1;
         (void)__shfl_sync(~0u, 1, 0);
         (void)static_cast<int>(values[31 - thread()]);
       }))
    caught += found.find("without waiting") != std::string::npos;
  CHECK(caught == 5);
}

TEST_CASE("emulation: two writers at once, reading what nobody wrote, and reaching out are faults") {
  every_order_faults("by two threads at once", {2}, [] {
    TINYZH_SHARED(int, value, 1);
    value[0] = 1;
  });
  every_order_faults("where nothing was written", {1}, [] {
    TINYZH_SHARED(int, value, 2);
    value[0] = 1;
    (void)static_cast<int>(value[1]);
  });
  every_order_faults("of 4 is touched at 4", {1}, [] {
    TINYZH_SHARED(int, value, 4);
    value[4] = 1;
  });
}

TEST_CASE("emulation: a thread that leaves before others wait for it is a fault") {
  every_order_faults("a barrier waits for it", {40}, [] {
    if (thread() != 3) __syncthreads();
  });
  every_order_faults("an operation of its warp waits for it", {32}, [] {
    if (thread() != 3) (void)__shfl_sync(~0u, 1, 0);
  });
  every_order_faults("for ever", {64}, [] {
    if (thread() < 32)
      __syncthreads();
    else if (thread() == 40)
      __syncthreads();
    else
      __syncwarp();
  });
  every_order_faults("different operations", {32}, [] {
    if (thread() == 0)
      __syncwarp();
    else
      (void)__shfl_sync(~0u, 1, 0);
  });
  every_order_faults("not in the mask", {32}, [] { (void)__shfl_sync(0xffu, 1, 0); });
}

TEST_CASE("emulation: what a thread throws comes out, and the next launch runs") {
  CHECK_THROWS_AS(emulation::launch({}, {8}, [] {
    if (threadIdx.x == 5) throw std::runtime_error("five");
    __syncthreads();
  }), std::runtime_error);
  int runs = 0;
  emulation::launch({}, {8}, [&] { ++runs; });
  CHECK(runs == 8);
  CHECK_THROWS_AS(emulation::launch({}, {1025}, [] {}), emulation::Fault);
  CHECK_THROWS_AS(__syncthreads(), std::logic_error);
}

TEST_CASE("emulation: atomic operations in shared memory do not get in each other's way, other accesses do") {
  in_every_order({}, {64}, [] {
    TINYZH_SHARED(unsigned, count, 1);
    if (thread() == 0) count[0] = 10;
    __syncthreads();
    CHECK(count[0].add(2) >= 10);
    __syncthreads();
    CHECK(count[0] == 10 + 2 * 64);
  });
  every_order_faults("without waiting", {64}, [] {  // read before all have added
    TINYZH_SHARED(unsigned, count, 1);
    if (thread() == 0) count[0] = 0;
    __syncthreads();
    (void)count[0].add(1);
    (void)static_cast<unsigned>(count[0]);
  });
  every_order_faults("by two threads at once", {64}, [] {
    TINYZH_SHARED(unsigned, count, 1);
    if (thread() == 0) count[0] = 0;
    __syncthreads();
    if (thread() % 2) (void)count[0].add(1);
    else count[0] = 7;
  });
  every_order_faults("where nothing was written", {1}, [] {
    TINYZH_SHARED(unsigned, count, 1);
    (void)count[0].add(1);
  });
}

TEST_CASE("emulation: atomic operations on the device's memory") {
  unsigned sum = 0;
  in_every_order({3}, {32}, [&] { atomicAdd(&sum, 1u); });
  CHECK(sum == 5 * 3 * 32);
}

namespace {

uint32_t pair_of(float low, float high, bool brain) {
  const auto narrow = [brain](float x) -> uint32_t { return brain ? std::bit_cast<uint32_t>(x) >> 16 : tinyzh::to_half(x); };
  return narrow(low) | narrow(high) << 16;
}

}  // namespace

TEST_CASE("emulation: a product of fragments is that of the matrices") {
  float A[16][16], B[16][8];  // numbers that both types hold
  for (int r = 0; r < 16; ++r)
    for (int k = 0; k < 16; ++k) A[r][k] = static_cast<float>((r * 7 + k * 3) % 16 - 8);
  for (int k = 0; k < 16; ++k)
    for (int n = 0; n < 8; ++n) B[k][n] = static_cast<float>((k * 5 + n) % 8) * 0.25f;
  for (bool brain : {false, true})
    in_every_order({}, {64}, [&] {
      const unsigned lane = thread() % kWarp, g = lane / 4, t = lane % 4 * 2;
      const auto of_a = [&](unsigned r, unsigned k) { return pair_of(A[r][k], A[r][k + 1], brain); };
      const uint32_t a[4] = {of_a(g, t), of_a(g + 8, t), of_a(g, t + 8), of_a(g + 8, t + 8)};
      const uint32_t b[2] = {pair_of(B[t][g], B[t + 1][g], brain), pair_of(B[t + 8][g], B[t + 9][g], brain)};
      float c[4] = {1, 2, 3, 4};
      if (brain) multiply_add(Bfloat16(), c, a, b);
      else multiply_add(Float16(), c, a, b);
      for (unsigned i = 0; i < 4; ++i) {
        float expected = static_cast<float>(i + 1);
        for (unsigned k = 0; k < 16; ++k) expected += A[g + i / 2 * 8][k] * B[k][t + i % 2];
        CHECK(c[i] == expected);
      }
    });
}

TEST_CASE("emulation: a product of fragments needs the whole warp, and one type") {
  const uint32_t a[4] = {}, b[2] = {};
  every_order_faults("an operation of its warp waits for it", {32}, [&] {
    float c[4] = {};
    if (thread() != 7) multiply_add(Float16(), c, a, b);
  });
  every_order_faults("different operations", {32}, [&] {
    float c[4] = {};
    if (thread() < 7) multiply_add(Float16(), c, a, b);
    else multiply_add(Bfloat16(), c, a, b);
  });
  every_order_faults("without a whole warp", {16}, [&] {
    float c[4] = {};
    multiply_add(Float16(), c, a, b);
  });
}

namespace {

void add_one(int* place) { ++*place; }
constexpr unsigned kThreads = 1;

void put_add_one(Stream stream, int* place) { TINYZH_LAUNCH(add_one, Dim3{1}, stream)(place); }

}  // namespace

TEST_CASE("emulation: what is put into a queue happens when somebody waits, in order") {
  const Queue queue;
  int device = 5, sent = 7, fetched = 0;
  put_add_one(queue, &device);
  Mark mark;
  mark.put(queue);
  queue.send(&device, &sent, sizeof device);
  queue.fetch(&fetched, &device, sizeof device);
  CHECK(device == 5);
  sent = 8;  // too early: the copy reads it later
  CHECK_FALSE(mark.is_over());
  CHECK(device == 6);
  CHECK(mark.is_over());
  mark.wait();
  CHECK(device == 6);
  queue.wait();
  CHECK(device == 8);
  CHECK(fetched == 8);
}

TEST_CASE("emulation: a graph puts the same work in again, and counts as launches") {
  const Queue queue;
  int device = 0;
  const size_t before = emulation::launches();
  const Graph graph(queue, [&] {
    put_add_one(queue, &device);
    put_add_one(queue, &device);
  });
  queue.wait();
  CHECK(device == 0);
  for (int i = 1; i <= 3; ++i) {
    graph.put(queue);
    queue.wait();
    CHECK(device == 2 * i);
  }
  CHECK(emulation::launches() - before == 6);
  CHECK_THROWS_AS(Graph(queue, [] { throw std::runtime_error("stopped"); }), std::runtime_error);
  put_add_one(queue, &device);
  queue.wait();
  CHECK(device == 7);
}

TEST_CASE("emulation: a fault comes out where the host waits, and nothing behind it happens") {
  const Queue queue;
  int device = 0;
  emulation::put(queue, [] { emulation::fault("bad"); });
  put_add_one(queue, &device);
  CHECK_THROWS_AS(queue.wait(), emulation::Fault);
  queue.wait();
  CHECK(device == 0);
  put_add_one(queue, &device);
  queue.wait();
  CHECK(device == 1);
  emulation::put(queue, [] { emulation::fault("bad"); });
  queue.abandon();
}
