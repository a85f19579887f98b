// One generation: what was asked, and what has come out of it so far.  The engine writes, any number of
// readers look; a reader may come late, leave early, or cancel.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/window.h"
#include "sample/sampler.h"

namespace tinyzh {

enum class FinishReason { none, stop, length, cancelled, timeout, error };

struct RequestOptions {
  std::vector<int32_t> prompt;       // token ids, at least one
  std::function<std::vector<int32_t>()> make_prompt;  // instead: called by the engine, so that nobody waits for it
  SamplingParams sampling;
  int64_t max_new_tokens = -1;       // -1: to the end of the context; 0: the prompt is only computed, and kept
  int64_t min_new_tokens = 0;        // end_tokens cannot be drawn before
  std::vector<int32_t> end_tokens;   // end the story and are not part of it
  std::vector<std::string> stop;     // strings that end the story and are not part of it
  std::vector<std::string> bad_words;
  bool trim_first_space = false;     // the text starts with this request: drop its dummy prefix
  Overflow overflow = Overflow::stop;
  int32_t priority = 0;              // the higher, the sooner
  size_t score_from = 0;             // not 0: nothing is drawn, and scores() are those of prompt[score_from ...]
  std::optional<std::chrono::steady_clock::time_point> deadline;
};

class Request {
 public:
  using Clock = std::chrono::steady_clock;

  // `queue` counts the requests that wait, this one included, until it starts or is over.
  explicit Request(RequestOptions options, std::shared_ptr<std::atomic<size_t>> queue = nullptr)
      : options_(std::move(options)), queue_(std::move(queue)) {}

  // Its prompt, if that is to be made, is the engine's alone until the request has started: others ask prompt().
  const RequestOptions& options() const { return options_; }

  // ---- readers ----
  struct Snapshot {
    std::vector<std::string> pieces;           // from the asked index on: whole characters, none empty
    FinishReason finish = FinishReason::none;  // none: more may come
  };
  // Pieces from index `from` on; waits up to `seconds` for there to be one or for the end.  Past the
  // deadline this is the end, whether or not the engine has come to the request yet.
  Snapshot wait(size_t from, double seconds);
  // All that is new since so many pieces, tokens and scores; does not wait.
  struct News {
    std::vector<std::string> pieces;
    std::vector<Sample> samples;
    std::vector<float> scores;
    FinishReason finish = FinishReason::none;
  };
  News news(size_t pieces, size_t samples, size_t scores) const;
  std::vector<int32_t> prompt() const;  // empty while it is not made
  std::vector<int32_t> tokens() const;
  std::vector<Sample> samples() const;  // with log-probabilities, when they were asked for
  FinishReason finish_reason() const;
  std::vector<float> scores() const;    // log-probability of each prompt token from score_from on
  void cancel();                        // readers see the end at once, the engine within one step
  void rethrow_error() const;           // does nothing unless the finish is error
  // Called from the engine's thread whenever there is something new to see, and once at once if so wanted.  It must
  // not wait: the engine would.  What it throws is lost.
  void set_waker(std::function<void()> waker, bool at_once = true);

  struct Timing {  // seconds since submission; negative: not yet
    double started = -1, first_token = -1, finished = -1;
  };
  Timing timing() const;
  uint64_t last_logits_hash() const;  // FNV-1a of the last logits' bytes, 0 before any came to the host

  // ---- the engine ----
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  bool expired(Clock::time_point now = Clock::now()) const { return options_.deadline && now >= *options_.deadline; }
  bool make_prompt();  // false: it is over, and its prompt stays unmade
  void start();
  void publish(const Sample& sample, std::string text);  // one token and the text that became certain
  void add_score(float logprob);
  void finish(FinishReason reason, std::string text = {}, uint64_t logits_hash = 0);
  void fail_with(std::exception_ptr error);

 private:
  void wake() noexcept;
  void leave_queue() {  // with the lock
    if (queue_) queue_->fetch_sub(1);
    queue_ = nullptr;
  }
  double seconds_since_submission() const {
    return std::chrono::duration<double>(Clock::now() - submitted_).count();
  }

  RequestOptions options_;  // changed by make_prompt() alone, before the start
  const Clock::time_point submitted_ = Clock::now();
  std::atomic<bool> cancelled_{false};

  mutable std::mutex mutex_;  // guards everything below
  std::condition_variable changed_;
  std::shared_ptr<std::atomic<size_t>> queue_;  // null: it does not wait there any more
  std::vector<std::string> pieces_;
  std::vector<Sample> samples_;
  std::vector<float> scores_;
  FinishReason finish_ = FinishReason::none;
  std::exception_ptr error_;
  Timing timing_;
  uint64_t logits_hash_ = 0;
  std::shared_ptr<const std::function<void()>> waker_;  // shared, so that the engine needs no memory to call it
};

}  // namespace tinyzh
