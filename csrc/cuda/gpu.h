// A GPU as a backend.
#pragma once

#include <memory>
#include <span>

#include "cuda/block_memory.h"
#include "cuda/forward.h"
#include "cuda/inputs.h"
#include "cuda/memory.h"
#include "model/backend.h"
#include "model/model.h"

namespace tinyzh::cuda {

class Gpu final : public Backend {
 public:
  static constexpr size_t kMaxRows = 1024;

  // Copies the weights to the device.  Throws Error: backend (no device, or one that cannot compute with what the model
  // asks for), checkpoint (a weight is beyond that).
  explicit Gpu(const Model& model);
  ~Gpu() override;

  size_t max_rows() const override { return kMaxRows; }
  void begin(std::span<const Row> rows, float* logits, const Observer& observer) override;
  bool proceed(ThreadPool::Clock::time_point deadline) override;

  const Allocator& block_memory() const override { return memory_; }
  size_t free_memory() const override { return device_facts().free_bytes; }
  void copy_block(std::byte* to, const std::byte* from, size_t bytes) const override { queue_.copy(to, from, bytes); }

 private:
  void reserve(size_t rows);

  const Config config_;
  const Queue queue_;
  BlockMemory blocks_;
  const Allocator memory_;
  Forward forward_;
  Mark mark_;

  size_t capacity_ = 0;  // rows that the following have room for
  std::unique_ptr<const Inputs> inputs_;
  std::unique_ptr<Inputs::Sheet> sheet_;
};

}  // namespace tinyzh::cuda
