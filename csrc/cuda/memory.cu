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
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorInsufficientDriver)
    return concat("NVIDIA's driver is not installed, or too old for CUDA ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10);
  if (code != cudaSuccess) return cudaGetErrorString(code);
  return count > 0 ? "" : "there is no GPU";
}

void* allocate(size_t bytes) {
  void* memory = nullptr;
  return cudaMalloc(&memory, bytes) == cudaSuccess ? memory : nullptr;
}
void release(void* memory) { cudaFree(memory); }

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
#include <new>

namespace tinyzh::cuda {

std::string problem() { return {}; }

void* allocate(size_t bytes) { return ::operator new(bytes, std::align_val_t{64}, std::nothrow); }
void release(void* memory) { ::operator delete(memory, std::align_val_t{64}); }

void upload(Stream, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void download(Stream, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void copy(Stream, void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

}  // namespace tinyzh::cuda

#endif
