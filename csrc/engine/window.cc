#include "engine/window.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace tinyzh {

size_t ShiftedWindow::from(size_t n, size_t context) {
  const size_t room = context - first(context) - last(context);  // new tokens between two shifts
  if (n <= context) return first(context);
  const size_t shifts = (n - context + room - 1) / room;
  return context + (shifts - 1) * room - last(context);
}

Window::Window(std::span<const int32_t> tokens, size_t context, Overflow overflow, Pages& pages)
    : context_(context), overflow_(overflow), pages_(pages), tip_(pages.prefixes().root()) {
  const size_t n = tokens.size();
  if (n <= context) {
    tokens_.assign(tokens.begin(), tokens.end());
    return;
  }
  if (overflow == Overflow::stop)
    fail(Code::context_full, "the prompt has ", n, " tokens and the model's context is ", context,
         ": shorten the prompt by ", n - context, " tokens");
  const std::span<const int32_t> first = tokens.first(ShiftedWindow::first(context));
  const std::span<const int32_t> rest = tokens.subspan(ShiftedWindow::from(n, context));
  tokens_.assign(first.begin(), first.end());
  tokens_.insert(tokens_.end(), rest.begin(), rest.end());
}

std::span<const int32_t> Window::page_tokens(size_t page) const {
  const size_t begin = page * kBlockPositions;
  return std::span(tokens_).subspan(begin, std::min(kBlockPositions, computed_ - begin));
}

size_t Window::shareable(size_t limit) const {
  limit = std::min(limit, tokens_.size() - 1);
  PrefixCache::Node* at = pages_.prefixes().root();
  size_t found = 0;
  while (found + kBlockPositions <= limit) {
    at = pages_.prefixes().find(at, std::span(tokens_).subspan(found, kBlockPositions));
    if (!at) break;
    found += kBlockPositions;
  }
  return found;
}

void Window::share(size_t limit) {
  PrefixCache& prefixes = pages_.prefixes();
  const size_t found = shareable(limit);
  table_.reserve(found / kBlockPositions);
  for (; computed_ < found; computed_ += kBlockPositions) {
    tip_ = prefixes.find(tip_, std::span(tokens_).subspan(computed_, kBlockPositions));
    table_.push_back(tip_->page());
  }
  shared_ = table_.size();
  prefixes.hold(tip_);
}

void Window::copy_part(size_t limit) {
  PrefixCache& prefixes = pages_.prefixes();
  limit = std::min(limit, tokens_.size() - 1);
  const std::span<const int32_t> wanted = std::span(tokens_).subspan(computed_, std::min(kBlockPositions, limit - computed_));
  const PrefixCache::Part part = prefixes.find_part(tip_, wanted);
  if (part.count == 0) return;
  prefixes.hold(part.node);  // or making room for the copy might take it
  const auto release = [&](PrefixCache::Node* node) { prefixes.release(node); };
  const std::unique_ptr<PrefixCache::Node, decltype(release)> held(part.node, release);
  if (!reserve(computed_ + part.count)) return;
  pages_.copy(table_.back(), part.node->page());
  computed_ += part.count;
}

bool Window::reserve(size_t positions) {
  const size_t pages = (positions + kBlockPositions - 1) / kBlockPositions;
  table_.reserve(pages);
  own_.reserve(pages);
  while (table_.size() < pages) {
    Page page = pages_.take();
    if (!page) return false;
    table_.push_back(page.data());
    own_.push_back(std::move(page));
  }
  return true;
}

void Window::advance(size_t n) {
  computed_ += n;
  PrefixCache& prefixes = pages_.prefixes();
  size_t done = 0;
  for (; done < own_.size() && (shared_ + 1) * kBlockPositions <= computed_; ++done, ++shared_) {
    PrefixCache::Node* next = prefixes.insert(tip_, page_tokens(shared_), std::move(own_[done]));
    prefixes.hold(next);
    prefixes.release(tip_);
    tip_ = next;
    table_[shared_] = next->page();  // another sequence's page, if that was first with the same tokens
  }
  own_.erase(own_.begin(), own_.begin() + static_cast<ptrdiff_t>(done));
}

bool Window::push(int32_t token) {
  if (tokens_.size() == context_) {
    if (overflow_ == Overflow::stop) return false;
    let_go();
    const auto first = static_cast<ptrdiff_t>(ShiftedWindow::first(context_));
    const auto last = static_cast<ptrdiff_t>(ShiftedWindow::last(context_));
    tokens_.erase(tokens_.begin() + first, tokens_.end() - last);
    tokens_.push_back(token);
    share(ShiftedWindow::first(context_));  // those are what they were
    return true;
  }
  tokens_.push_back(token);
  return true;
}

void Window::let_go() {
  PrefixCache& prefixes = pages_.prefixes();
  if (!own_.empty() && own_.front() && shared_ * kBlockPositions < computed_) {  // for who goes on from here
    try {
      prefixes.insert(tip_, page_tokens(shared_), std::move(own_.front()));
    } catch (const std::bad_alloc&) {  // then it will be computed again
    }
  }
  own_.clear();
  table_.clear();
  prefixes.release(tip_);
  tip_ = prefixes.root();
  shared_ = computed_ = 0;
}

}  // namespace tinyzh
