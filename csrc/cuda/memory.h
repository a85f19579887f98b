// The device as the host sees it: memory of it, copies, and waiting.  memory.cu is compiled as launch.cu is.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "cuda/launch.h"

namespace tinyzh::cuda {

struct DeviceFacts {
  std::string problem;      // what hinders: no driver, no GPU; empty when there is a device to compute on
  int capability = 0;       // 80: sm_80
  size_t free_bytes = 0;    // of its memory
};
DeviceFacts device_facts();
std::string build_facts();  // what the kernels were compiled with, and for which GPUs

// Memory of the device, which only kernels and the functions below may touch; and memory of the host that copies can
// go to and come from while the host does something else.  Null: there is no more.
void* allocate(size_t bytes);
void release(void* memory);
size_t blocks_together();  // how many blocks of the cache to ask for at a time
void* allocate_pinned(size_t bytes);
void release_pinned(void* memory);

// An order in which things happen: each thing that is put in begins when the one before is over.
class Queue {
 public:
  Queue();  // throws Error(Code::backend)
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  operator Stream() const { return stream_; }
  void wait() const;  // until all is over; throws Error(Code::backend) when something has failed
  void abandon() const noexcept;  // the same, whatever has failed

  // Both are over when they return.
  void upload(void* to, const void* from, size_t bytes) const { send(to, from, bytes), wait(); }
  void download(void* to, const void* from, size_t bytes) const { fetch(to, from, bytes), wait(); }
  // Only put in: memory of the host stays as it is, or is not looked at, until they are over.
  void send(void* to, const void* from, size_t bytes) const;
  void fetch(void* to, const void* from, size_t bytes) const;
  void copy(void* to, const void* from, size_t bytes) const;

 private:
  Stream stream_;
};

// A place in a queue.
class Mark {
 public:
  Mark();
  ~Mark();
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;

  void put(const Queue& queue);  // behind all that is in it
  bool is_over() const;          // whether what was before it is
  void wait() const;             // throws Error(Code::backend) when something before it has failed

 private:
  struct Place;
  const std::unique_ptr<Place> place_;
};

// What a function puts into a queue, kept so that it can be put in again in one go.
class Graph {
 public:
  Graph(const Queue& queue, const std::function<void()>& put);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void put(const Queue& queue) const;

 private:
  struct Kept;
  const std::unique_ptr<Kept> kept_;
};

}  // namespace tinyzh::cuda
