// A text that several requests continue: a list of tokens, and nothing else.  What has been computed of them is in the
// engine's tree of prefixes, or is computed again.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/request.h"

namespace tinyzh {

class Session {
 public:
  explicit Session(std::vector<int32_t> tokens = {}) : tokens_(std::move(tokens)) {}

  // All so far; of a request under way what it has drawn.
  std::vector<int32_t> tokens() const;
  // The same, once the last request is over; throws Error(Code::busy) before.
  std::vector<int32_t> finished_tokens();
  // What comes of this request, whose prompt begins with the session's tokens, becomes part of the session.
  void follow(std::shared_ptr<Request> request);

 private:
  std::vector<int32_t> with_speech() const;

  mutable std::mutex mutex_;
  std::vector<int32_t> tokens_;
  std::shared_ptr<Request> speaking_;  // the last one
};

}  // namespace tinyzh
