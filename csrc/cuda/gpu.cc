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

Gpu::Gpu(const Model& model, size_t ahead)
    : config_(model.config()),
      ahead_(ahead),
      precision_(precision_for(model)),
      blocks_(model.kv_layout().block_bytes(), blocks_together()),
      memory_(blocks_.allocator()),
      forward_(model.weights(), precision_, model.kv_layout().type, queue_),
      slots_(kMaxRows, static_cast<size_t>(config_.vocab_size)),
      idle_block_(model.kv_layout().block_bytes(), device_memory(), Fill::nothing),
      passes_(ahead + 1) {}

Gpu::~Gpu() { queue_.abandon(); }

size_t Gpu::bucket(size_t rows) {
  constexpr size_t kStep = 8, kTile = 64;  // what a product of 16 bits takes at a time, few and many
  if (rows < kStep) {
    size_t count = 1;
    while (count < rows) count *= 2;
    return count;
  }
  const size_t step = rows <= kTile ? kStep : kTile;
  return (rows + step - 1) / step * step;
}

size_t Gpu::graphs() const {
  return static_cast<size_t>(std::count_if(graphs_.begin(), graphs_.end(), [](const auto& entry) { return entry.second != nullptr; }));
}

Gpu::Pass::Pass(const Inputs& inputs, size_t room) : rows(room), sheet(inputs), drawn(room, pinned_memory()) {}

void Gpu::reserve(size_t rows) {
  if (rows <= capacity_) return;
  queue_.wait();  // nobody needs the old ones any more
  const size_t wanted = std::min(kMaxRows, std::max(rows, 2 * capacity_));
  const size_t vocab = static_cast<size_t>(config_.vocab_size);
  capacity_ = 0;  // until all of it is there
  graphs_.clear();
  forward_.reserve(wanted);
  drawn_there_ = AlignedBuffer<Drawn>(wanted, device_memory(), Fill::nothing);
  scratch_ = AlignedBuffer<uint64_t>(wanted * draw_scratch(static_cast<unsigned>(vocab)), device_memory(), Fill::nothing);
  inputs_ = std::make_unique<const Inputs>(wanted, KvLayout::blocks(static_cast<size_t>(config_.seq_len)));
  capacity_ = wanted;
}

void Gpu::run(std::span<const Row> rows, float* logits, const Observer& observer) {
  if (rows.empty()) return;
  put(rows, logits, alone_, observer);
  alone_->over.wait();
}

void Gpu::begin(std::span<const Row> rows, float* logits) {
  put(rows, logits, passes_[(first_ + under_way_) % passes_.size()], {});
  ++under_way_;
}

bool Gpu::proceed(ThreadPool::Clock::time_point deadline) {
  drawn_.clear();
  if (under_way_ == 0) return true;
  const Pass& pass = *passes_[first_];
  if (deadline == ThreadPool::kNever) pass.over.wait();
  else
    while (!pass.over.is_over())
      if (ThreadPool::Clock::now() >= deadline) return false;
  for (size_t s = 0; s < pass.sheet.sampled(); ++s)
    if (pass.sheet.draws(s) >= 0) drawn_.push_back(pass.drawn[s]);
  first_ = (first_ + 1) % passes_.size();
  --under_way_;
  return true;
}

void Gpu::abandon() noexcept {
  queue_.abandon();
  under_way_ = 0;
}

void Gpu::put(std::span<const Row> rows, float* logits, std::unique_ptr<Pass>& place, const Observer& observer) {
  const auto same_sequence = [](const Row& a, const Row& b) { return a.blocks == b.blocks; };
  const bool one_each = std::adjacent_find(rows.begin(), rows.end(), same_sequence) == rows.end() && !observer;
  const size_t count = one_each ? bucket(rows.size()) : rows.size();
  reserve(count);
  if (!place || place->rows != capacity_) place = std::make_unique<Pass>(*inputs_, capacity_);
  Sheet& sheet = place->sheet;
  if (one_each) sheet.write_filled(rows, count, idle_block_.data());
  else sheet.write(rows);
  sheet.send(queue_);
  if (one_each) put_graph(count);
  else put_launches(count, inputs_->sampled(), sheet.sampled(), sheet.draws(), observer);

  const auto vocab = static_cast<size_t>(config_.vocab_size);
  for (size_t i = 0; i < sheet.wanted().size();) {  // neighbours in one copy
    size_t n = 1;
    while (i + n < sheet.wanted().size() && sheet.wanted()[i + n] == sheet.wanted()[i] + n) ++n;
    queue_.fetch(logits + i * vocab, forward_.logits() + sheet.wanted()[i] * vocab, n * vocab * sizeof(float));
    i += n;
  }
  if (sheet.draws()) queue_.fetch(place->drawn.data(), drawn_there_.data(), sheet.sampled() * sizeof(Drawn));
  place->over.put(queue_);
}

void Gpu::put_launches(size_t rows, const int32_t* sampled, size_t sampled_count, bool draws, const Observer& observer) {
  forward_.put({inputs_->rows(rows), slots_.data(), sampled, sampled_count}, observer);
  if (draws)
    draw(queue_, slots_.data(), inputs_->draws(), forward_.logits(), drawn_there_.data(), scratch_.data(),
         static_cast<unsigned>(config_.vocab_size), static_cast<unsigned>(sampled_count));
}

// The first time piece by piece: a kernel may have to be loaded, which a graph does not like, and not every number of
// rows comes again.
void Gpu::put_graph(size_t rows) {
  const auto all = [&] { put_launches(rows, nullptr, rows, true); };
  const auto [entry, is_new] = graphs_.try_emplace(rows);
  if (is_new) return all();
  if (!entry->second) entry->second = std::make_unique<Graph>(queue_, all);
  entry->second->put(queue_);
}

}  // namespace tinyzh::cuda
