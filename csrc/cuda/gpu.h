// A GPU as a backend.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "cuda/block_memory.h"
#include "cuda/forward.h"
#include "cuda/inputs.h"
#include "cuda/memory.h"
#include "cuda/slots.h"
#include "model/backend.h"
#include "model/model.h"

namespace tinyzh::cuda {

// A pass in which every row is a token of a sequence of its own, and nothing else, is a graph: one for each number of
// rows out of a few, which is filled up.  Others are launched piece by piece.
class Gpu final : public Backend {
 public:
  static constexpr size_t kMaxRows = 1024;

  // ahead: passes that may be begun while one is under way.  Copies the weights to the device.  Throws Error: backend (no
  // device, or one that cannot compute with what the model asks for), checkpoint (a weight is beyond that).
  explicit Gpu(const Model& model, size_t ahead = 0);
  ~Gpu() override;

  size_t max_rows() const override { return kMaxRows; }
  void run(std::span<const Row> rows, float* logits, const Observer& observer = {}) override;
  void begin(std::span<const Row> rows, float* logits) override;
  bool proceed(ThreadPool::Clock::time_point deadline) override;
  size_t depth() const override { return ahead_ + 1; }
  void abandon() noexcept override;

  bool can_draw() const override { return true; }
  int32_t open_slot(const Drawing& drawing) override { return slots_.open(queue_, drawing); }
  void close_slot(int32_t slot) override { slots_.close(slot); }
  std::span<const Drawn> drawn() const override { return drawn_; }

  const Allocator& block_memory() const override { return memory_; }
  size_t free_memory() const override { return device_facts().free_bytes; }
  void copy_block(std::byte* to, const std::byte* from, size_t bytes) const override { queue_.copy(to, from, bytes); }

  // Rows of the graph that takes so many.
  static size_t bucket(size_t rows);
  size_t graphs() const;  // made so far

 private:
  // What goes to the device, and what comes back.
  struct Pass {
    Pass(const Inputs& inputs, size_t rows);

    const size_t rows;  // that there is room for
    Sheet sheet;
    AlignedBuffer<Drawn> drawn;  // (sampled rows)
    Mark over;
  };

  void reserve(size_t rows);
  void put(std::span<const Row> rows, float* logits, std::unique_ptr<Pass>& place, const Observer& observer);
  void put_launches(size_t rows, const int32_t* sampled, size_t sampled_count, bool draws, const Observer& observer = {});
  void put_graph(size_t rows);

  const Config config_;
  const size_t ahead_;
  const Precision precision_;  // before all that needs a device: without one it says what is missing
  const Queue queue_;
  BlockMemory blocks_;
  const Allocator memory_;
  Forward forward_;
  Slots slots_;
  AlignedBuffer<std::byte> idle_block_;  // of the cache: that of rows which fill up

  // For passes of up to so many rows.
  size_t capacity_ = 0;
  std::unique_ptr<const Inputs> inputs_;
  AlignedBuffer<Drawn> drawn_there_;                // (B)
  AlignedBuffer<uint64_t> scratch_;                 // (B, draw_scratch(vocab_size))
  std::map<size_t, std::unique_ptr<Graph>> graphs_;  // by rows; null: such a pass came once

  std::vector<std::unique_ptr<Pass>> passes_;  // (depth): those under way, the oldest first, from first_ on in a ring
  size_t first_ = 0, under_way_ = 0;
  std::unique_ptr<Pass> alone_;  // that of run()
  std::vector<Drawn> drawn_;     // of the pass that ended last
};

}  // namespace tinyzh::cuda
