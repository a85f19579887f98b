// One generation: what was asked, and what has come out of it so far.  The engine writes, any number of
// readers look; a reader may come late, leave early, or cancel.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "sample/sampler.h"

namespace tinyzh {

enum class FinishReason { none, stop, length, cancelled, timeout, error };

struct RequestOptions {
  std::vector<int32_t> prompt;       // token ids, at least one
  SamplingParams sampling;
  int64_t max_new_tokens = -1;       // -1: to the end of the context
  int64_t min_new_tokens = 0;        // end_tokens cannot be drawn before
  std::vector<int32_t> end_tokens;   // end the story and are not part of it
  std::vector<std::string> stop;     // strings that end the story and are not part of it
  std::vector<std::string> bad_words;
  bool trim_first_space = false;     // the text starts with this request: drop its dummy prefix
  std::optional<std::chrono::steady_clock::time_point> deadline;
};

class Request {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Request(RequestOptions options) : options_(std::move(options)) {}

  const RequestOptions& options() const { return options_; }

  // ---- readers ----
  struct Snapshot {
    std::vector<std::string> pieces;           // from the asked index on: whole characters, none empty
    FinishReason finish = FinishReason::none;  // none: more may come
  };
  // Pieces from index `from` on; waits up to `seconds` for there to be one or for the end.  Past the
  // deadline this is the end, whether or not the engine has come to the request yet.
  Snapshot wait(size_t from, double seconds);
  std::vector<int32_t> tokens() const;
  std::vector<Sample> samples() const;  // with log-probabilities, when they were asked for
  FinishReason finish_reason() const;
  void cancel();                        // readers see the end at once, the engine within one step
  void rethrow_error() const;           // does nothing unless the finish is error
  // Called (from the engine's thread, and once at once) whenever there is something new to see.
  void set_waker(std::function<void()> waker);

  struct Timing {  // seconds since submission; negative: not yet
    double started = -1, first_token = -1, finished = -1;
  };
  Timing timing() const;
  uint64_t last_logits_hash() const;  // FNV-1a of the last logits' bytes, 0 before there are any

  // ---- the engine ----
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  bool expired() const { return options_.deadline && Clock::now() >= *options_.deadline; }
  void start();
  void publish(const Sample& sample, std::string text);  // one token and the text that became certain
  void finish(FinishReason reason, std::string text = {}, uint64_t logits_hash = 0);
  void fail_with(std::exception_ptr error);

 private:
  void wake();
  double seconds_since_submission() const {
    return std::chrono::duration<double>(Clock::now() - submitted_).count();
  }

  const RequestOptions options_;
  const Clock::time_point submitted_ = Clock::now();
  std::atomic<bool> cancelled_{false};

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  std::vector<std::string> pieces_;
  std::vector<Sample> samples_;
  FinishReason finish_ = FinishReason::none;
  std::exception_ptr error_;
  Timing timing_;
  uint64_t logits_hash_ = 0;
  std::function<void()> waker_;
};

}  // namespace tinyzh
