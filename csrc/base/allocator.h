// Where large memory comes from: weights, keys and values, working memory.  Small things (lists, strings) come from
// operator new, as everywhere in C++.
#pragma once

#include <cstddef>
#include <new>

namespace tinyzh {

struct Allocator {
  // Called from any thread, several at a time.
  void* (*allocate)(void* user, size_t size, size_t alignment);  // null: there is none
  void (*release)(void* user, void* memory, size_t size);
  void* user;

  static Allocator system() {
    return {[](void*, size_t size, size_t) { return ::operator new(size, kAlignment, std::nothrow); },
            [](void*, void* memory, size_t) { ::operator delete(memory, kAlignment); }, nullptr};
  }

  static constexpr std::align_val_t kAlignment{64};  // the only one that is asked for
};

}  // namespace tinyzh
