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
#define TINYZH_SHARED(type, name, count) __shared__ type name[count]
// TINYZH_LAUNCH(kernel, grid, stream)(arguments): blocks of kThreads threads.
#define TINYZH_LAUNCH(kernel, grid, stream) kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>

namespace tinyzh::cuda {
using Dim3 = dim3;
inline constexpr unsigned kWarp = 32;
}  // namespace tinyzh::cuda

#else

#include "cuda/emulation.h"

#define TINYZH_KERNEL static void
#define TINYZH_DEVICE static inline
#define TINYZH_SHARED(type, name, count)      \
  static char name##_key;                     \
  const ::tinyzh::cuda::Shared<type> name(&name##_key, count)
#define TINYZH_LAUNCH(kernel, grid, stream)                                                                  \
  [&](auto... arguments) {                                                                                   \
    static_cast<void>(stream);                                                                               \
    ::tinyzh::cuda::emulation::launch(grid, Dim3{kThreads}, [=] { kernel(arguments...); });                  \
  }

#endif
