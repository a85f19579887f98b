#include "cuda/gpu.h"

#include <algorithm>

#include "base/error.h"
#include "cuda/allocators.h"

namespace tinyzh::cuda {
namespace {

// What the device computes with; throws when it cannot.
Precision precision_for(const Model& model) {
  const DeviceFacts facts = device_facts();
  if (!facts.problem.empty())
    fail(Code::backend, "device is cuda: ", facts.problem, "; take device cpu or auto (tinyzh doctor shows what is there)");
  switch (model.rounding()) {
    case Rounding::float16: return Precision::float16;
    case Rounding::bfloat16:
      if (facts.capability < 80)
        fail(Code::backend, "dtype is bfloat16, which GPUs have from sm_80 on, and this one is sm_", facts.capability,
             "; take dtype float16");
      return Precision::bfloat16;
    case Rounding::none: break;
  }
  switch (model.weights().dtype) {
    case DType::int8: return Precision::int8;
    case DType::int4: return Precision::int4;
    case DType::float32: break;
  }
  return Precision::float32;
}

}  // namespace

Gpu::Gpu(const Model& model)
    : config_(model.config()),
      blocks_(model.kv_layout().block_bytes(), blocks_together()),
      memory_(blocks_.allocator()),
      forward_(model.weights(), precision_for(model), model.kv_layout().type, queue_) {}

Gpu::~Gpu() { queue_.abandon(); }

void Gpu::reserve(size_t rows) {
  if (rows <= capacity_) return;
  queue_.wait();  // nobody needs the old ones any more
  const size_t wanted = std::min(kMaxRows, std::max(rows, 2 * capacity_));
  capacity_ = 0;  // until all of it is there
  forward_.reserve(wanted);
  sheet_ = nullptr;
  inputs_ = std::make_unique<const Inputs>(wanted, KvLayout::blocks(static_cast<size_t>(config_.seq_len)));
  sheet_ = std::make_unique<Inputs::Sheet>(*inputs_);
  capacity_ = wanted;
}

void Gpu::begin(std::span<const Row> rows, float* logits, const Observer& observer) {
  if (rows.empty()) return;
  reserve(rows.size());
  sheet_->write(rows, rows.size(), nullptr);
  sheet_->send(queue_);
  forward_.put({inputs_->rows(rows.size()), nullptr, inputs_->sampled(), sheet_->sampled()}, observer);
  queue_.fetch(logits, forward_.logits(), sheet_->sampled() * static_cast<size_t>(config_.vocab_size) * sizeof(float));
  mark_.put(queue_);
}

bool Gpu::proceed(ThreadPool::Clock::time_point deadline) {
  if (deadline == ThreadPool::kNever) {
    mark_.wait();
    return true;
  }
  while (!mark_.is_over())
    if (ThreadPool::Clock::now() >= deadline) return false;
  return true;
}

}  // namespace tinyzh::cuda
