// Memory of the device, and memory that copies reach, for whoever takes an Allocator.  (nvcc does not compile the
// lambdas of allocator.h, so that memory.h does without it.)
#pragma once

#include "base/allocator.h"
#include "cuda/memory.h"

namespace tinyzh::cuda {

inline Allocator device_memory() {
  return {[](void*, size_t size, size_t) { return allocate(size); }, [](void*, void* memory, size_t) { release(memory); },
          nullptr};
}
inline Allocator pinned_memory() {
  return {[](void*, size_t size, size_t) { return allocate_pinned(size); },
          [](void*, void* memory, size_t) { release_pinned(memory); }, nullptr};
}

}  // namespace tinyzh::cuda
