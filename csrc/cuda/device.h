// What kernels are written in.  nvcc compiles them for GPUs; any other compiler runs them on the CPU
// (emulation.h), which is how they are tested.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__

#define TINYZH_KERNEL static __global__ void
#define TINYZH_DEVICE static __device__ __forceinline__
// TINYZH_SHARED(float, name, 32): an array that all threads of a block share.
#define TINYZH_SHARED(type, name, count) __shared__ ::tinyzh::cuda::Shared<type> name[count]
// TINYZH_LAUNCH(kernel, grid, stream)(arguments): blocks of kThreads threads.
#define TINYZH_INLINE __device__ __forceinline__
// TINYZH_UNROLL(4), or TINYZH_UNROLL() for all of it, before a loop.
#define TINYZH_UNROLL(...) _Pragma(TINYZH_TEXT(unroll __VA_ARGS__))
#define TINYZH_TEXT(...) #__VA_ARGS__
#define TINYZH_LAUNCH(kernel, grid, stream) kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>

namespace tinyzh::cuda {
using Dim3 = dim3;
inline constexpr unsigned kWarp = 32;

// An element of shared memory.  (No constructor: shared memory has none.)
template <class T>
struct Shared {
  T value;
  __device__ __forceinline__ operator T() const { return value; }
  __device__ __forceinline__ void operator=(T x) { value = x; }
  __device__ __forceinline__ T add(T x) { return atomicAdd(&value, x); }  // what was there before
};

}  // namespace tinyzh::cuda

#else

#include "cuda/emulated_stream.h"
#include "cuda/emulation.h"

#define TINYZH_KERNEL static void
#define TINYZH_DEVICE static inline
#define TINYZH_SHARED(type, name, count)      \
  static char name##_key;                     \
  const ::tinyzh::cuda::Shared<type> name(&name##_key, count)
#define TINYZH_INLINE inline
#define TINYZH_UNROLL(...)
#define TINYZH_LAUNCH(kernel, grid, stream)                                                                      \
  [&](auto... arguments) {                                                                                       \
    ::tinyzh::cuda::emulation::put(                                                                              \
        stream, [=, blocks = grid] { ::tinyzh::cuda::emulation::launch(blocks, Dim3{kThreads}, [=] { kernel(arguments...); }); }); \
  }

#endif

namespace tinyzh::cuda {

// Types of sixteen bits, as names for templates.
struct Float16 {};
struct Bfloat16 {};

// A product of fragments, which a warp makes together: c += A B with A (16, 16) and B (16, 8) of 16 bits, c (16, 8)
// of fp32.  Of lane 4 g + t:
//
//   a   A[g][2t, 2t + 1], A[g + 8][2t, 2t + 1], A[g][2t + 8, 2t + 9], A[g + 8][2t + 8, 2t + 9], pairs in a word
//   b   B[2t, 2t + 1][g], B[2t + 8, 2t + 9][g]
//   c   c[g][2t], c[g][2t + 1], c[g + 8][2t], c[g + 8][2t + 1]
//
// In which order a GPU adds inside is its own; a column of c depends on the same column of B alone.
#ifndef __CUDACC__

inline void multiply_add(Float16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulation::multiply_add(emulation::Half::float16, c, a, b);
}
inline void multiply_add(Bfloat16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulation::multiply_add(emulation::Half::bfloat16, c, a, b);
}

#else

TINYZH_DEVICE void multiply_add(Float16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else  // sm_75 has half of it
  for (int half = 0; half < 2; ++half)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
#endif
}
TINYZH_DEVICE void multiply_add(Bfloat16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  static_cast<void>(c), static_cast<void>(a), static_cast<void>(b);
  __trap();  // the host does not start it there
#endif
}

#endif

}  // namespace tinyzh::cuda
