// Memory of the device for the blocks of the cache.  Asking the driver takes far longer than a step, so that it is asked
// for many blocks at once; they are kept for the next one who wants a block.
#pragma once

#include <cstddef>
#include <mutex>
#include <new>
#include <vector>

#include "base/aligned.h"
#include "base/allocator.h"
#include "cuda/allocators.h"

namespace tinyzh::cuda {

// Outlives its blocks.  Any number of threads.
class BlockMemory {
 public:
  BlockMemory(size_t block_bytes, size_t together, const Allocator& source = device_memory())
      : block_bytes_(block_bytes), together_(together), source_(source) {}
  BlockMemory(const BlockMemory&) = delete;
  BlockMemory& operator=(const BlockMemory&) = delete;

  // Of blocks of this size alone.
  Allocator allocator() {
    return {[](void* self, size_t size, size_t) { return static_cast<BlockMemory*>(self)->take(size); },
            [](void* self, void* block, size_t) { static_cast<BlockMemory*>(self)->give_back(block); }, this};
  }

 private:
  void* take(size_t bytes) noexcept {
    if (bytes != block_bytes_) return nullptr;
    const std::scoped_lock lock(mutex_);
    try {
      if (free_.empty()) grow();
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
    void* const block = free_.back();
    free_.pop_back();
    return block;
  }
  void give_back(void* block) noexcept {
    const std::scoped_lock lock(mutex_);
    free_.push_back(static_cast<std::byte*>(block));  // there is room, see grow()
  }
  void grow() {
    slabs_.reserve(slabs_.size() + 1);
    free_.reserve(blocks_ + together_);
    for (size_t count = together_;; count /= 2) {  // less, where there is not enough
      try {
        slabs_.emplace_back(count * block_bytes_, source_, Fill::nothing);
      } catch (const std::bad_alloc&) {
        if (count == 1) throw;
        continue;
      }
      blocks_ += count;
      for (size_t i = count; i-- > 0;) free_.push_back(slabs_.back().data() + i * block_bytes_);
      return;
    }
  }

  const size_t block_bytes_, together_;
  const Allocator source_;
  std::mutex mutex_;  // of what follows
  std::vector<AlignedBuffer<std::byte>> slabs_;
  size_t blocks_ = 0;
  std::vector<std::byte*> free_;
};

}  // namespace tinyzh::cuda
