// A GPU on the CPU, for the tests: runs what is written for CUDA's threads, blocks and warps, and fails where a
// real one would only sometimes go wrong.
//
// Each thread of a block is a fiber, which runs until it waits for others: at a barrier, or in an operation of
// its warp.  Whose turn it is follows an order that can be chosen, so that what depends on it shows.  Shared
// memory remembers who touched what since which barrier: two threads that may do so at the same time, one of
// them writing, are a fault, and so is reading what nobody wrote.  Memory out of bounds is AddressSanitizer's
// business, which is told of the fibers.
//
// Included by device.h where the compiler is not nvcc; blocks run one after another on the calling thread.  What is
// put into a stream waits there until the host waits for it (emulated_stream.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace tinyzh::cuda {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

inline constexpr unsigned kWarp = 32;

// CUDA's own names, which kernels use.
inline thread_local Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

// What would have gone wrong on a GPU, now or some other time.
struct Fault : std::logic_error {
  using std::logic_error::logic_error;
};

enum class Order { forward, reverse, random };  // of blocks in a grid, of threads in a block

struct Schedule {
  Order order = Order::forward;
  uint64_t seed = 1;  // of the random one
};

// How launches of this thread run from now on.
void set_schedule(Schedule schedule);

// Runs `kernel` once for each thread of each block; throws what a thread throws, or a Fault.
void launch(Dim3 grid, Dim3 block, const std::function<void()>& kernel);

// What a thread of a running block calls.
void barrier();
void warp_barrier(uint32_t mask);
// Every lane of the mask gives a value and gets what lane `from` gave (itself where that is not in the mask).
uint64_t exchange(uint32_t mask, uint64_t value, unsigned from);
// c (4) += the lane's part of A (16, 16) times B (16, 8), of which a (4) and b (2) are the lane's parts, as device.h
// says; all lanes of the warp take part.  k goes in order.
enum class Half { float16, bfloat16 };
void multiply_add(Half type, float* c, const uint32_t* a, const uint32_t* b);
unsigned lane();
[[noreturn]] void fault(const std::string& what);

// Shared memory of a block: cells of `size` bytes, the same ones for every thread that asks with this key.
struct Cells {
  void* key;
  size_t count, size;
  std::vector<std::byte> bytes;
  struct Touch {
    int writer = -1, write_barrier = -1, write_sync = -1;  // -1: nobody; barriers of the block, syncs of the warp
    int reader = -1, read_barrier = -1, read_sync = -1;    // the last one, and the last sync of all
    bool many = false, many_warps = false;                 // readers since that barrier
    bool atomic = false, many_atomics = false;             // how the last writer wrote, and whether others did so too
  };
  std::vector<Touch> touches;
};
Cells& cells(void* key, size_t count, size_t size);
// Where the running thread is: barriers of the block and syncs of its warp so far.
struct Moment {
  int thread, barriers, syncs;
};
Moment now();
void touch_read(Cells& cells, size_t index);
void touch_write(Cells& cells, size_t index);
void touch_atomic(Cells& cells, size_t index);  // reads and writes; atomic ones do not get in each other's way

}  // namespace emulation

// An array in shared memory; TINYZH_SHARED declares one.
template <class T>
class Shared {
 public:
  Shared(void* key, size_t count) : cells_(emulation::cells(key, count, sizeof(T))) {}

  class Cell {
   public:
    Cell(emulation::Cells& cells, size_t index) : cells_(cells), index_(index) {}
    Cell(const Cell&) = default;
    operator T() const {
      emulation::touch_read(cells_, index_);
      T value;
      std::memcpy(&value, cells_.bytes.data() + index_ * sizeof(T), sizeof(T));
      return value;
    }
    Cell& operator=(T value) {
      emulation::touch_write(cells_, index_);
      std::memcpy(cells_.bytes.data() + index_ * sizeof(T), &value, sizeof(T));
      return *this;
    }
    Cell& operator=(const Cell& other) { return *this = static_cast<T>(other); }
    Cell& operator+=(T value) { return *this = static_cast<T>(*this) + value; }
    T add(T value) const {  // atomically; what was there before
      emulation::touch_atomic(cells_, index_);
      T before;
      std::memcpy(&before, cells_.bytes.data() + index_ * sizeof(T), sizeof(T));
      const T after = before + value;
      std::memcpy(cells_.bytes.data() + index_ * sizeof(T), &after, sizeof(T));
      return before;
    }

   private:
    emulation::Cells& cells_;
    size_t index_;
  };

  Cell operator[](size_t index) const { return {cells_, index}; }

 private:
  emulation::Cells& cells_;
};

// c + the products of four pairs of int8.
inline int __dp4a(int a, int b, int c) {
  for (int shift = 0; shift < 32; shift += 8)
    c += static_cast<int>(static_cast<int8_t>(a >> shift)) * static_cast<int>(static_cast<int8_t>(b >> shift));
  return c;
}

// Atomic on the device's memory: blocks run one after another, and a fiber until it waits.
template <class T>
T atomicAdd(T* place, T value) {
  const T before = *place;
  *place = before + value;
  return before;
}
inline void __threadfence() {}

inline void __syncthreads() { emulation::barrier(); }
inline void __syncwarp(uint32_t mask = 0xffffffffu) { emulation::warp_barrier(mask); }

template <class T>
T __shfl_sync(uint32_t mask, T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = emulation::exchange(mask, bits, from % kWarp);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, unsigned other) {
  return __shfl_sync(mask, value, emulation::lane() ^ other);
}

}  // namespace tinyzh::cuda
