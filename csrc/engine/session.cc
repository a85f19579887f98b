#include "engine/session.h"

#include "base/error.h"

namespace tinyzh {

std::vector<int32_t> Session::with_speech() const {
  if (!speaking_) return tokens_;
  std::vector<int32_t> all = speaking_->prompt();
  if (all.empty()) return tokens_;  // it did not come to be made
  const std::vector<int32_t> drawn = speaking_->tokens();
  all.insert(all.end(), drawn.begin(), drawn.end());
  return all;
}

std::vector<int32_t> Session::tokens() const {
  const std::scoped_lock lock(mutex_);
  return with_speech();
}

std::vector<int32_t> Session::finished_tokens() {
  const std::scoped_lock lock(mutex_);
  if (speaking_) {
    if (speaking_->finish_reason() == FinishReason::none)
      fail(Code::busy, "the session's last request is not over: wait for its last event, or cancel it");
    tokens_ = with_speech();
    speaking_ = nullptr;
  }
  return tokens_;
}

void Session::follow(std::shared_ptr<Request> request) {
  const std::scoped_lock lock(mutex_);
  speaking_ = std::move(request);
}

}  // namespace tinyzh
