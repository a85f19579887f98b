#include "cuda/memory.h"

#include "base/error.h"

#ifdef __CUDACC__

#ifndef TINYZH_CUDA_GPUS
#define TINYZH_CUDA_GPUS "unknown GPUs"  // CMake knows
#endif

namespace tinyzh::cuda {
namespace {

void check(cudaError_t code, const char* what) {
  if (code == cudaErrorMemoryAllocation) throw std::bad_alloc();
  if (code != cudaSuccess) fail(Code::backend, "CUDA: ", what, ": ", cudaGetErrorString(code));
}

cudaStream_t of(Stream stream) { return static_cast<cudaStream_t>(stream); }

void move(Stream stream, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  check(cudaMemcpyAsync(to, from, bytes, kind, of(stream)), "a copy could not begin");
}

}  // namespace

DeviceFacts device_facts() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaErrorInsufficientDriver)
    return {concat("NVIDIA's driver is not installed, or too old for CUDA ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10)};
  if (code != cudaSuccess) return {cudaGetErrorString(code)};
  if (count == 0) return {"there is no GPU"};
  int device = 0, major = 0, minor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  size_t free = 0, total = 0;
  if (const cudaError_t asked = cudaMemGetInfo(&free, &total); asked != cudaSuccess) return {cudaGetErrorString(asked)};
  return {{}, 10 * major + minor, free};
}

std::string build_facts() {
  return concat("CUDA ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10, " for " TINYZH_CUDA_GPUS);
}

void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();  // it would be taken for that of the next launch
  return nullptr;
}
void release(void* memory) { cudaFree(memory); }
size_t blocks_together() { return 32; }
void* allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  if (cudaMallocHost(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}
void release_pinned(void* memory) { cudaFreeHost(memory); }

Queue::Queue() : stream_(nullptr) {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream could not be made");
  stream_ = stream;
}
Queue::~Queue() {
  abandon();
  cudaStreamDestroy(of(stream_));
}
void Queue::wait() const {
  check(cudaGetLastError(), "a kernel could not be started");
  check(cudaStreamSynchronize(of(stream_)), "a kernel or a copy failed");
}
void Queue::abandon() const noexcept { cudaStreamSynchronize(of(stream_)); }
void Queue::send(void* to, const void* from, size_t bytes) const { move(stream_, to, from, bytes, cudaMemcpyHostToDevice); }
void Queue::fetch(void* to, const void* from, size_t bytes) const { move(stream_, to, from, bytes, cudaMemcpyDeviceToHost); }
void Queue::copy(void* to, const void* from, size_t bytes) const { move(stream_, to, from, bytes, cudaMemcpyDeviceToDevice); }

struct Mark::Place {
  cudaEvent_t event = nullptr;
};
Mark::Mark() : place_(std::make_unique<Place>()) {
  check(cudaEventCreateWithFlags(&place_->event, cudaEventDisableTiming), "an event could not be made");
}
Mark::~Mark() { cudaEventDestroy(place_->event); }
void Mark::put(const Queue& queue) {
  check(cudaGetLastError(), "a kernel could not be started");
  check(cudaEventRecord(place_->event, of(queue)), "an event could not be recorded");
}
bool Mark::is_over() const { return cudaEventQuery(place_->event) != cudaErrorNotReady; }
void Mark::wait() const { check(cudaEventSynchronize(place_->event), "a kernel or a copy failed"); }

struct Graph::Kept {
  cudaGraphExec_t graph = nullptr;
};
namespace {
struct Destroy {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
};
}  // namespace
Graph::Graph(const Queue& queue, const std::function<void()>& put) : kept_(std::make_unique<Kept>()) {
  cudaGraph_t graph = nullptr;
  check(cudaStreamBeginCapture(of(queue), cudaStreamCaptureModeThreadLocal), "a graph could not be begun");
  std::exception_ptr thrown;
  try {
    put();
  } catch (...) {  // the capture is to end all the same
    thrown = std::current_exception();
  }
  const cudaError_t ended = cudaStreamEndCapture(of(queue), &graph);
  const std::unique_ptr<CUgraph_st, Destroy> owned(graph);
  if (thrown) std::rethrow_exception(thrown);
  check(ended, "a graph could not be captured");
  check(cudaGraphInstantiate(&kept_->graph, graph, 0), "a graph could not be made");
}
Graph::~Graph() {
  if (kept_->graph) cudaGraphExecDestroy(kept_->graph);
}
void Graph::put(const Queue& queue) const { check(cudaGraphLaunch(kept_->graph, of(queue)), "a graph could not be started"); }

}  // namespace tinyzh::cuda

#else

#include <cstring>
#include <new>

#include "cuda/emulated_stream.h"

namespace tinyzh::cuda {
namespace {

emulation::EmulatedStream& of(Stream stream) { return *static_cast<emulation::EmulatedStream*>(stream); }

}  // namespace

DeviceFacts device_facts() { return {{}, 120, size_t{1} << 30}; }

std::string build_facts() { return "emulated, for tests"; }

void* allocate(size_t bytes) { return ::operator new(bytes, std::align_val_t{64}, std::nothrow); }
void release(void* memory) { ::operator delete(memory, std::align_val_t{64}); }
size_t blocks_together() { return 1; }  // so that AddressSanitizer sees where each ends
void* allocate_pinned(size_t bytes) { return allocate(bytes); }
void release_pinned(void* memory) { release(memory); }

Queue::Queue() : stream_(new emulation::EmulatedStream) {}
Queue::~Queue() {
  abandon();
  delete &of(stream_);
}
void Queue::wait() const { of(stream_).run_until(of(stream_).given()); }
void Queue::abandon() const noexcept {
  try {
    wait();
  } catch (...) {  // nobody looks at it any more
  }
}
void Queue::copy(void* to, const void* from, size_t bytes) const {
  of(stream_).put([=] { std::memcpy(to, from, bytes); });
}
void Queue::send(void* to, const void* from, size_t bytes) const { copy(to, from, bytes); }
void Queue::fetch(void* to, const void* from, size_t bytes) const { copy(to, from, bytes); }

struct Mark::Place {
  emulation::EmulatedStream* stream = nullptr;
  uint64_t work = 0;
};
Mark::Mark() : place_(std::make_unique<Place>()) {}
Mark::~Mark() = default;
void Mark::put(const Queue& queue) { *place_ = {&of(queue), of(queue).given()}; }
bool Mark::is_over() const {  // a device goes on while it is asked
  if (!place_->stream || place_->stream->is_over(place_->work)) return true;
  place_->stream->run_one();
  return false;
}
void Mark::wait() const {
  if (place_->stream) place_->stream->run_until(place_->work);
}

struct Graph::Kept {
  std::vector<emulation::EmulatedStream::Work> work;
};
Graph::Graph(const Queue& queue, const std::function<void()>& put) : kept_(std::make_unique<Kept>()) {
  of(queue).begin_capture();
  try {
    put();
  } catch (...) {
    of(queue).end_capture();
    throw;
  }
  kept_->work = of(queue).end_capture();
}
Graph::~Graph() = default;
void Graph::put(const Queue& queue) const {
  for (const emulation::EmulatedStream::Work& work : kept_->work) of(queue).put(work);
}

}  // namespace tinyzh::cuda

#endif
