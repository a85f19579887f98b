// What changes from pass to pass: tokens, positions, tables of blocks, which rows want logits.  All of it lies in one
// piece, so that it comes to the device in one copy, and always at the same places there, so that a graph finds it.
#pragma once

#include <span>

#include "base/aligned.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "model/backend.h"

namespace tinyzh::cuda {

class Inputs {
 public:
  // For passes of up to `rows` rows, each of which sees up to `blocks` blocks of the cache.
  Inputs(size_t rows, size_t blocks);

  // One pass, in memory that copies reach.
  class Sheet {
   public:
    explicit Sheet(const Inputs& inputs);
    // The rows of a pass, filled up with idle ones to `count`: each of these sees itself alone, in the block `idle`.
    void write(std::span<const Row> rows, size_t count, std::byte* idle);
    size_t sampled() const { return sampled_; }
    void send(const Queue& queue) const;

   private:
    const Inputs& inputs_;
    AlignedBuffer<std::byte> bytes_;
    size_t used_ = 0, sampled_ = 0;
  };

  // Where the pass is that was sent last.
  Rows rows(size_t count) const;
  const int32_t* sampled() const { return at<int32_t>(sampled_at_); }  // rows that want logits

 private:
  template <class T>
  T* at(size_t offset) const { return reinterpret_cast<T*>(bytes_ + offset); }

  const size_t positions_at_, sampled_at_, tables_at_, blocks_at_, size_;  // bytes; tokens come first
  const AlignedBuffer<std::byte> memory_;
  std::byte* const bytes_;
};

}  // namespace tinyzh::cuda
