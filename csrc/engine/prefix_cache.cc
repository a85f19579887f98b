#include "engine/prefix_cache.h"

#include <algorithm>

namespace tinyzh {
namespace {

size_t common(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t n = std::min(a.size(), b.size());
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(n), b.begin()).first - a.begin());
}

}  // namespace

PrefixCache::~PrefixCache() {
  while (evict()) {  // leaf by leaf: a tree may be deeper than the stack
  }
}

PrefixCache::Node* PrefixCache::find(Node* at, std::span<const int32_t> tokens) const {
  const auto found = at->children_.find({tokens.begin(), tokens.end()});
  return found == at->children_.end() ? nullptr : found->second.get();
}

PrefixCache::Part PrefixCache::find_part(Node* at, std::span<const int32_t> tokens) const {
  // In lexicographic order, what has most in common with a key stands right before or right after it.
  Part best;
  const auto after = at->children_.lower_bound({tokens.begin(), tokens.end()});
  const auto look = [&](auto child) {
    if (const size_t n = common(child->first, tokens); n > best.count) best = {child->second.get(), n};
  };
  if (after != at->children_.end()) look(after);
  if (after != at->children_.begin()) look(std::prev(after));
  return best;
}

PrefixCache::Node* PrefixCache::insert(Node* at, std::span<const int32_t> tokens, Page page) {
  const std::vector<int32_t> key(tokens.begin(), tokens.end());
  auto place = at->children_.lower_bound(key);
  if (place != at->children_.end()) {
    if (place->first == key) return place->second.get();
    if (key.size() < page_positions_ && common(place->first, key) == key.size()) return nullptr;
  }
  if (place != at->children_.begin()) {  // a shorter page of the same beginning has had its time
    const auto before = std::prev(place);
    if (before->first.size() < key.size() && common(before->first, key) == before->first.size()) {
      remove(before->second.get());
      place = at->children_.lower_bound(key);
    }
  }
  auto node = std::make_unique<Node>();
  Node* const raw = node.get();
  const auto made = at->children_.emplace_hint(place, key, std::move(node));
  evictable_.erase(at);
  raw->parent_ = at;
  raw->tokens_ = &made->first;
  raw->page_ = std::move(page);
  raw->released_ = ++releases_;
  evictable_.insert(raw);
  ++pages_;
  ++reclaimable_;
  return raw;
}

void PrefixCache::hold(Node* node) {
  for (; node != &root_; node = node->parent_)
    if (node->holders_++ == 0) {
      evictable_.erase(node);
      --reclaimable_;
    }
}

void PrefixCache::release(Node* node) {
  for (; node != &root_; node = node->parent_)
    if (--node->holders_ == 0) {
      node->released_ = ++releases_;
      if (node->children_.empty()) evictable_.insert(node);
      ++reclaimable_;
    }
}

bool PrefixCache::evict() {
  if (evictable_.empty()) return false;
  Node* const node = *evictable_.begin();
  Node* const parent = node->parent_;
  remove(node);
  if (parent != &root_ && parent->holders_ == 0 && parent->children_.empty()) evictable_.insert(parent);
  return true;
}

// A node that is not held and has no children.
void PrefixCache::remove(Node* node) {
  evictable_.erase(node);
  --pages_;
  --reclaimable_;
  auto& siblings = node->parent_->children_;
  siblings.erase(siblings.find(*node->tokens_));
}

}  // namespace tinyzh
