// What a sequence is computed from: its tokens, as many of them as the context holds, and the pages with the
// keys and values of those that have been computed.
#pragma once

#include <cstdint>
#include <utility>
#include <functional>
#include <cstring>
#include <span>
#include <vector>

#include "engine/page_pool.h"
#include "engine/prefix_cache.h"
#include "kernels/kernels.h"

namespace tinyzh {

// What happens when the context is full.
enum class Overflow {
  stop,   // the story ends
  shift,  // it goes on from its first and its last tokens, which are computed anew as a prompt of their own
};

// Which tokens of a list of n are seen under Overflow::shift: the first `first`, then all from `from` on.  A
// function of n alone.
struct ShiftedWindow {
  static constexpr size_t first(size_t context) { return context / 8; }
  static constexpr size_t last(size_t context) { return context / 2; }

  // Index where the second part begins; `first(context)` while everything fits.
  static size_t from(size_t n, size_t context);
};

// Where pages come from: what is free, then what the cache of prefixes can do without.
class Pages {
 public:
  // Pages lie where a backend wants them, and are copied as it says.
  using Copy = std::function<void(std::byte* to, const std::byte* from, size_t bytes)>;

  Pages(size_t page_bytes, size_t budget_bytes, const Allocator& allocator = Allocator::system(), Copy copy = &std::memcpy)
      : pool_(page_bytes, budget_bytes, allocator), prefixes_(kBlockPositions), copy_(std::move(copy)) {}

  Page take() {
    Page page = pool_.take();
    while (!page && prefixes_.evict()) page = pool_.take();
    return page;
  }
  void copy(std::byte* to, const std::byte* from) const { copy_(to, from, pool_.page_bytes()); }
  size_t available() const { return pool_.limit() - pool_.used() + prefixes_.reclaimable(); }
  const PagePool& pool() const { return pool_; }
  PrefixCache& prefixes() { return prefixes_; }
  const PrefixCache& prefixes() const { return prefixes_; }

 private:
  PagePool pool_;
  PrefixCache prefixes_;
  const Copy copy_;
};

class Window {
 public:
  // Of the tokens, those that the context holds.  Throws Error(Code::context_full) when they are too many
  // and overflow is stop.
  Window(std::span<const int32_t> tokens, size_t context, Overflow overflow, Pages& pages);
  ~Window() { let_go(); }
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  std::span<const int32_t> tokens() const { return tokens_; }
  size_t computed() const { return computed_; }
  size_t pages() const { return table_.size(); }
  std::byte* const* table() const { return table_.data(); }

  // Takes the whole pages that the prefixes have of the first `limit` tokens, of which at least one is left to
  // compute; nothing may be computed yet.
  void share(size_t limit);
  // Then copies the part of a page that fits, if there is room.  Throws std::bad_alloc.
  void copy_part(size_t limit);
  // Tokens that share() would find.
  size_t shareable(size_t limit) const;
  // Pages for the first `positions` tokens; false when the budget is used up.  Throws std::bad_alloc.
  bool reserve(size_t positions);
  // The next n tokens have been computed: full pages go to the prefixes.
  void advance(size_t n);
  // The next token; false when the context is full and overflow is stop.
  bool push(int32_t token);
  // Gives back all pages, those of computed tokens to the prefixes; nothing is computed then.
  void let_go();

 private:
  std::span<const int32_t> page_tokens(size_t page) const;

  const size_t context_;
  const Overflow overflow_;
  Pages& pages_;
  std::vector<int32_t> tokens_;
  size_t computed_ = 0;
  std::vector<std::byte*> table_;  // shared pages, then own ones
  PrefixCache::Node* tip_;         // the last shared page, held
  size_t shared_ = 0;              // pages
  std::vector<Page> own_;
};

}  // namespace tinyzh
