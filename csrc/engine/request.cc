#include "engine/request.h"

#include <algorithm>

namespace tinyzh {

Request::Snapshot Request::wait(size_t from, double seconds) {
  constexpr double kLongest = 1e9;  // three decades; more could overflow the clock
  seconds = seconds > 0 ? std::min(seconds, kLongest) : 0;  // NaN: 0
  auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  if (options_.deadline) until = std::min(until, *options_.deadline);
  std::unique_lock lock(mutex_);
  const auto news = [&] { return pieces_.size() > from || finish_ != FinishReason::none; };
  if (!changed_.wait_until(lock, until, news) && expired()) {
    lock.unlock();
    finish(FinishReason::timeout);
    lock.lock();
  }
  Snapshot snapshot;
  if (from < pieces_.size()) snapshot.pieces.assign(pieces_.begin() + static_cast<ptrdiff_t>(from), pieces_.end());
  snapshot.finish = finish_;
  return snapshot;
}

Request::News Request::news(size_t pieces, size_t samples, size_t scores) const {
  const auto since = [](const auto& all, size_t from) {
    return std::vector(all.begin() + static_cast<ptrdiff_t>(std::min(from, all.size())), all.end());
  };
  const std::scoped_lock lock(mutex_);
  return {since(pieces_, pieces), since(samples_, samples), since(scores_, scores), finish_};
}

std::vector<int32_t> Request::prompt() const {
  const std::scoped_lock lock(mutex_);
  return options_.prompt;
}

std::vector<int32_t> Request::tokens() const {
  const std::scoped_lock lock(mutex_);
  std::vector<int32_t> tokens;
  for (const Sample& sample : samples_) tokens.push_back(sample.token);
  return tokens;
}

std::vector<Sample> Request::samples() const {
  const std::scoped_lock lock(mutex_);
  return samples_;
}

std::vector<float> Request::scores() const {
  const std::scoped_lock lock(mutex_);
  return scores_;
}

FinishReason Request::finish_reason() const {
  const std::scoped_lock lock(mutex_);
  return finish_;
}

Request::Timing Request::timing() const {
  const std::scoped_lock lock(mutex_);
  return timing_;
}

uint64_t Request::last_logits_hash() const {
  const std::scoped_lock lock(mutex_);
  return logits_hash_;
}

void Request::rethrow_error() const {
  std::exception_ptr error;
  {
    const std::scoped_lock lock(mutex_);
    error = error_;
  }
  if (error) std::rethrow_exception(error);
}

void Request::set_waker(std::function<void()> waker, bool at_once) {
  auto shared = waker ? std::make_shared<const std::function<void()>>(std::move(waker)) : nullptr;
  {
    const std::scoped_lock lock(mutex_);
    waker_.swap(shared);
  }
  if (at_once) wake();
}  // the old waker goes here, outside the lock: its destructor may take others

void Request::cancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  finish(FinishReason::cancelled);
}

void Request::wake() noexcept {
  std::shared_ptr<const std::function<void()>> waker;
  {
    const std::scoped_lock lock(mutex_);
    waker = waker_;
  }
  changed_.notify_all();
  if (!waker) return;
  try {
    (*waker)();  // outside the lock: it may take others
  } catch (...) {  // the engine serves others too
  }
}

bool Request::make_prompt() {
  if (!options_.make_prompt) return true;
  std::vector<int32_t> prompt = options_.make_prompt();
  const std::scoped_lock lock(mutex_);
  if (finish_ != FinishReason::none) return false;
  options_.prompt = std::move(prompt);
  return true;
}

void Request::start() {
  const std::scoped_lock lock(mutex_);
  leave_queue();
  if (timing_.started < 0) timing_.started = seconds_since_submission();
}

void Request::publish(const Sample& sample, std::string text) {
  {
    const std::scoped_lock lock(mutex_);
    if (finish_ != FinishReason::none) return;  // cancelled meanwhile: what readers saw is the end
    samples_.push_back(sample);
    if (timing_.first_token < 0) timing_.first_token = seconds_since_submission();
    if (text.empty()) return;
    pieces_.push_back(std::move(text));
  }
  wake();
}

void Request::add_score(float logprob) {
  const std::scoped_lock lock(mutex_);
  if (finish_ == FinishReason::none) scores_.push_back(logprob);
}

void Request::finish(FinishReason reason, std::string text, uint64_t logits_hash) {
  {
    const std::scoped_lock lock(mutex_);
    if (finish_ != FinishReason::none) return;
    if (!text.empty()) pieces_.push_back(std::move(text));
    finish_ = reason;
    leave_queue();
    logits_hash_ = logits_hash;
    timing_.finished = seconds_since_submission();
  }
  wake();
}

void Request::fail_with(std::exception_ptr error) {
  {
    const std::scoped_lock lock(mutex_);
    if (finish_ != FinishReason::none) return;
    error_ = std::move(error);
    finish_ = FinishReason::error;
    leave_queue();
    timing_.finished = seconds_since_submission();
  }
  wake();
}

}  // namespace tinyzh
