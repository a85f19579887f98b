// What changes from pass to pass: tokens, positions, tables of blocks, which rows are sampled and who draws from them.
// All of it lies in one piece, so that it comes to the device in one copy, and always at the same places there, so that
// a graph finds it.
#pragma once

#include <span>
#include <vector>

#include "base/aligned.h"
#include "cuda/launch.h"
#include "cuda/memory.h"
#include "model/backend.h"

namespace tinyzh::cuda {

class Inputs {
 public:
  // For passes of up to `rows` rows, each of which sees up to `blocks` blocks of the cache.
  Inputs(size_t rows, size_t blocks);

  // Where the pass is that was sent last.
  Rows rows(size_t count) const;
  const int32_t* sampled() const { return at<int32_t>(layout_.sampled); }  // rows that are
  const int32_t* draws() const { return at<int32_t>(layout_.draws); }      // the slot of each of those, or -1

 private:
  friend class Sheet;
  struct Layout {  // in bytes; tokens come first
    size_t positions, sampled, draws, tables, blocks, all;
  };
  template <class T>
  T* at(size_t offset) const { return reinterpret_cast<T*>(bytes_ + offset); }

  const Layout layout_;
  const AlignedBuffer<std::byte> memory_;
  std::byte* const bytes_;
};

// One pass, in memory that copies reach.
class Sheet {
 public:
  explicit Sheet(const Inputs& inputs);

  // The rows of a pass; those that want logits or draw are sampled.
  void write(std::span<const Row> rows);
  // Rows of different sequences, all of which are sampled, filled up to `count` with idle ones: each of these sees itself
  // alone, in the block `idle` of the cache, and nobody looks.
  void write_filled(std::span<const Row> rows, size_t count, std::byte* idle);
  void send(const Queue& queue) const;

  size_t sampled() const { return sampled_; }
  int32_t draws(size_t s) const { return draws_[s]; }                // the slot of sampled row s, or -1
  bool draws() const { return draws_some_; }
  const std::vector<size_t>& wanted() const { return wanted_; }      // the sampled rows whose logits are
  size_t capacity() const { return layout_.positions / sizeof(int32_t); }  // rows, at least

 private:
  void write_rows(std::span<const Row> rows, bool all_sampled);
  void sample(size_t row, int32_t draws_to, bool wanted);

  Inputs::Layout layout_;
  std::byte* const there_;  // on the device
  AlignedBuffer<std::byte> bytes_;
  int32_t *tokens_, *positions_, *sampled_rows_, *draws_;
  std::byte*** tables_;
  std::byte** blocks_;
  size_t blocks_used_ = 0, sampled_ = 0;
  bool draws_some_ = false;
  std::vector<size_t> wanted_;
};

}  // namespace tinyzh::cuda
