#include "cuda/memory.h"

#ifdef __CUDACC__

#include "base/error.h"

namespace tinyzh::cuda {
namespace {

void check(cudaError_t code, const char* what) {
  if (code == cudaErrorMemoryAllocation) throw std::bad_alloc();
  if (code != cudaSuccess) fail(Code::backend, "CUDA: ", what, ": ", cudaGetErrorString(code));
}

cudaStream_t of(Stream stream) { return static_cast<cudaStream_t>(stream); }

void move(Stream stream, void* to, const void* from, size_t bytes, cudaMemcpyKind kind, bool wait) {
  check(cudaMemcpyAsync(to, from, bytes, kind, of(stream)), "a copy could not begin");
  check(cudaGetLastError(), "a kernel could not be started");
  if (wait) check(cudaStreamSynchronize(of(stream)), "a kernel or a copy failed");
}

}  // namespace

std::string problem() {
  int count = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess) return cudaGetErrorString(code);
  return count > 0 ? "" : "there is no GPU";
}

Allocator device_memory() {
  return {[](void*, size_t size, size_t) -> void* {
            void* memory = nullptr;
            return cudaMalloc(&memory, size) == cudaSuccess ? memory : nullptr;
          },
          [](void*, void* memory, size_t) { cudaFree(memory); }, nullptr};
}

void upload(Stream stream, void* to, const void* from, size_t bytes) {
  move(stream, to, from, bytes, cudaMemcpyHostToDevice, true);
}
void download(Stream stream, void* to, const void* from, size_t bytes) {
  move(stream, to, from, bytes, cudaMemcpyDeviceToHost, true);
}
void copy(Stream stream, void* to, const void* from, size_t bytes) {
  move(stream, to, from, bytes, cudaMemcpyDeviceToDevice, false);
}

}  // namespace tinyzh::cuda

#else

#include <cstring>

namespace tinyzh::cuda {

std::string problem() { return {}; }

Allocator device_memory() { return Allocator::system(); }

void upload(Stream, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void download(Stream, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void copy(Stream, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

}  // namespace tinyzh::cuda

#endif
