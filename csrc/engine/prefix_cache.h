// Pages that one sequence computed, kept for the next one that begins with the same tokens.
//
// A tree: a node is a page and the tokens whose keys and values it holds; its parent holds the tokens before.
// Only full pages have children.  A sequence holds the deepest node it reads, and so all above it; what nobody
// holds is the first to go when memory is short, least recently used first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "engine/page_pool.h"

namespace tinyzh {

// How many tokens two lists begin with in common.
size_t common_beginning(std::span<const int32_t> a, std::span<const int32_t> b);

// Only insert() takes memory, so nothing else can fail.
class PrefixCache {
 public:
  class Node;

 private:
  struct Older {
    bool operator()(const Node* a, const Node* b) const;
  };
  using Evictable = std::set<Node*, Older>;

  struct Less {  // looks up a span without making a vector of it
    using is_transparent = void;
    bool operator()(std::span<const int32_t> a, std::span<const int32_t> b) const {
      return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
    }
  };

 public:
  class Node {
   public:
    std::byte* page() const { return page_.data(); }

   private:
    friend class PrefixCache;
    Node* parent_ = nullptr;
    const std::vector<int32_t>* tokens_ = nullptr;  // its key in the parent's children
    Page page_;
    std::map<std::vector<int32_t>, std::unique_ptr<Node>, Less> children_;
    size_t holders_ = 0;  // of it or of a node below
    uint64_t released_ = 0;  // when nobody held it any more, on the cache's own count
    Evictable::node_type place_;  // among the evictable, while it is not there
  };

  explicit PrefixCache(size_t page_positions) : page_positions_(page_positions) {}
  ~PrefixCache();  // nothing is held any more
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  Node* root() { return &root_; }
  // The child of exactly these tokens (a full page), or null.
  Node* find(Node* at, std::span<const int32_t> tokens) const;

  struct Part {
    Node* node = nullptr;
    size_t count = 0;  // its first `count` tokens are those that were asked for
  };
  // The child that begins with most of the tokens: its page can be copied.
  Part find_part(Node* at, std::span<const int32_t> tokens) const;

  // Keeps a page that holds `tokens` after `at`, and returns its node; another page of the same tokens stays,
  // and this one goes.  Null when tokens fill no page and are the beginning of a page already there.
  Node* insert(Node* at, std::span<const int32_t> tokens, Page page);

  void hold(Node* node);
  void release(Node* node);

  // Lets the page go that was released first and has no page after it; false when all are held.
  bool evict();

  size_t pages() const { return pages_; }
  size_t reclaimable() const { return reclaimable_; }  // pages that nobody holds

 private:
  void remove(Node* node);
  void make_evictable(Node* node) { evictable_.insert(std::move(node->place_)); }
  void keep(Node* node) {  // if it was evictable
    if (node != &root_ && node->place_.empty()) node->place_ = evictable_.extract(node);
  }

  const size_t page_positions_;
  Node root_;
  Evictable evictable_;  // not held, no children
  uint64_t releases_ = 0;
  size_t pages_ = 0, reclaimable_ = 0;
};

inline bool PrefixCache::Older::operator()(const Node* a, const Node* b) const { return a->released_ < b->released_; }

}  // namespace tinyzh
