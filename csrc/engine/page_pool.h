// Memory for keys and values: pages of one size, never more of them than a budget allows.  A page holds whatever
// it held: nothing of it is read before it is written, and filling the new pages of many streams would take longer
// than a step may.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "base/aligned.h"

namespace tinyzh {

class PagePool;

// One page, given back to its pool when this goes.
class Page {
 public:
  Page() = default;
  Page(Page&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
  Page& operator=(Page&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Page();

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }

 private:
  friend class PagePool;
  Page(PagePool* pool, std::byte* data) : pool_(pool), data_(data) {}

  PagePool* pool_ = nullptr;
  std::byte* data_ = nullptr;
};

// One thread at a time; outlives its pages.
class PagePool {
 public:
  PagePool(size_t page_bytes, size_t budget_bytes, const Allocator& allocator = Allocator::system())
      : page_bytes_(page_bytes), limit_(budget_bytes / page_bytes), allocator_(allocator) {}
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // An empty Page when the budget is used up; throws std::bad_alloc when the system has less than that.
  Page take() {
    if (used_ == limit_) return {};
    if (free_.empty()) {
      free_.reserve(memory_.size() + 1);  // so that giving back cannot fail
      memory_.emplace_back(page_bytes_, allocator_, Fill::nothing);
      free_.push_back(memory_.back().data());
    }
    ++used_;
    std::byte* data = free_.back();
    free_.pop_back();
    return {this, data};
  }

  size_t page_bytes() const { return page_bytes_; }
  size_t limit() const { return limit_; }  // pages within the budget
  size_t used() const { return used_; }
  size_t allocated() const { return memory_.size(); }  // pages taken from the system: it gets none back

 private:
  friend class Page;

  const size_t page_bytes_, limit_;
  const Allocator allocator_;
  size_t used_ = 0;
  std::vector<AlignedBuffer<std::byte>> memory_;
  std::vector<std::byte*> free_;  // the last one given back is the first to be taken: it may still be cached
};

inline Page::~Page() {
  if (!data_) return;
  pool_->free_.push_back(data_);
  --pool_->used_;
}

}  // namespace tinyzh
