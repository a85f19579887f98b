// Memory for vectors: 64-byte aligned, zeroed unless that is not wanted, owned.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <utility>

#include "base/allocator.h"

namespace tinyzh {

enum class Fill {
  zeros,
  nothing,  // whatever is there; also, the system hands the memory out only when it is first written
};

template <class T>
class AlignedBuffer {
 public:
  static constexpr size_t kAlignment = static_cast<size_t>(Allocator::kAlignment);

  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size, const Allocator& allocator = Allocator::system(), Fill fill = Fill::zeros) {
    if (size == 0) return;
    if (size > (static_cast<size_t>(-1) - kAlignment) / sizeof(T)) throw std::bad_alloc();
    void* memory = allocator.allocate(allocator.user, size * sizeof(T), kAlignment);
    if (!memory) throw std::bad_alloc();
    data_ = {static_cast<T*>(memory), Release{allocator, size * sizeof(T)}};
    size_ = size;
    if (fill == Fill::zeros) std::memset(memory, 0, size * sizeof(T));
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }
  operator std::span<T>() { return {data(), size_}; }
  operator std::span<const T>() const { return {data(), size_}; }

 private:
  struct Release {
    Allocator allocator = Allocator::system();
    size_t bytes = 0;
    void operator()(T* memory) const { allocator.release(allocator.user, memory, bytes); }
  };
  std::unique_ptr<T, Release> data_;
  size_t size_ = 0;
};

}  // namespace tinyzh
