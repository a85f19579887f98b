#include "engine/prefix_cache.h"

#include <algorithm>

namespace tinyzh {

size_t common_beginning(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto n = static_cast<ptrdiff_t>(std::min(a.size(), b.size()));
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + n, b.begin()).first - a.begin());
}

PrefixCache::~PrefixCache() {
  while (evict()) {  // leaf by leaf: a tree may be deeper than the stack
  }
}

PrefixCache::Node* PrefixCache::find(Node* at, std::span<const int32_t> tokens) const {
  const auto found = at->children_.find(tokens);
  return found == at->children_.end() ? nullptr : found->second.get();
}

PrefixCache::Part PrefixCache::find_part(Node* at, std::span<const int32_t> tokens) const {
  // In lexicographic order, what has most in common with a key stands right before or right after it.
  Part best;
  const auto after = at->children_.lower_bound(tokens);
  const auto look = [&](auto child) {
    if (const size_t n = common_beginning(child->first, tokens); n > best.count) best = {child->second.get(), n};
  };
  if (after != at->children_.end()) look(after);
  if (after != at->children_.begin()) look(std::prev(after));
  return best;
}

PrefixCache::Node* PrefixCache::insert(Node* at, std::span<const int32_t> tokens, Page page) {
  const auto after = at->children_.lower_bound(tokens);
  if (after != at->children_.end()) {
    const std::vector<int32_t>& key = after->first;
    if (common_beginning(key, tokens) == tokens.size()) {  // the same, or longer
      if (key.size() == tokens.size()) return after->second.get();
      if (tokens.size() < page_positions_) return nullptr;
    }
  }
  Node* shorter = nullptr;  // a page of the same beginning, which has had its time
  if (after != at->children_.begin()) {
    const auto before = std::prev(after);
    if (before->first.size() < tokens.size() && common_beginning(before->first, tokens) == before->first.size())
      shorter = before->second.get();
  }
  auto node = std::make_unique<Node>();
  Node* const raw = node.get();
  raw->parent_ = at;
  raw->page_ = std::move(page);
  raw->released_ = ++releases_;
  const auto place = evictable_.insert(raw).first;
  try {
    raw->tokens_ = &at->children_.emplace_hint(after, std::vector<int32_t>(tokens.begin(), tokens.end()), std::move(node))->first;
  } catch (...) {
    evictable_.erase(place);
    throw;
  }
  keep(at);
  ++pages_;
  ++reclaimable_;
  if (shorter) remove(shorter);
  return raw;
}

void PrefixCache::hold(Node* node) {
  for (; node != &root_; node = node->parent_)
    if (node->holders_++ == 0) {
      keep(node);
      --reclaimable_;
    }
}

void PrefixCache::release(Node* node) {
  for (; node != &root_; node = node->parent_)
    if (--node->holders_ == 0) {
      node->released_ = ++releases_;
      if (node->children_.empty()) make_evictable(node);
      ++reclaimable_;
    }
}

bool PrefixCache::evict() {
  if (evictable_.empty()) return false;
  Node* const node = *evictable_.begin();
  Node* const parent = node->parent_;
  remove(node);
  if (parent != &root_ && parent->holders_ == 0 && parent->children_.empty()) make_evictable(parent);
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
