// What an engine has done lately: counts, and times of the last steps and requests.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace tinyzh {

struct Percentiles {  // seconds; 0 before there is anything to tell
  double p50 = 0, p90 = 0, p99 = 0;
};

struct EngineState {
  size_t running = 0, waiting = 0;
  size_t pages = 0, pages_limit = 0;      // that hold keys and values, of running requests or kept for later ones
  size_t pages_kept = 0;                  // of them: kept for later
  size_t pages_allocated = 0, page_bytes = 0;
};

struct Stats : EngineState {
  uint64_t steps = 0, requests = 0, preemptions = 0;  // since the model was opened
  uint64_t prompt_tokens = 0, reused_tokens = 0;      // computed; not computed, because they were there
  uint64_t new_tokens = 0;
  double tokens_per_second = 0;                       // new tokens, over the last steps
  Percentiles step, overhead, first_token;            // a step; all of it but the forward pass; submission to first token
};

// The last kSize durations.
class Durations {
 public:
  static constexpr size_t kSize = 1024;
  void add(double seconds) { values_[count_++ % kSize] = static_cast<float>(seconds); }
  Percentiles percentiles() const;

 private:
  std::array<float, kSize> values_{};
  size_t count_ = 0;
};

class Metrics {
 public:
  using Clock = std::chrono::steady_clock;

  // One step: what it did, and the state after it.
  struct Step {
    double seconds = 0, forward_seconds = 0;
    size_t new_tokens = 0, prompt_tokens = 0;
    Clock::time_point end;
  };
  void add(const Step& step);
  void add_first_token(double seconds);
  void add_request(size_t reused_tokens);
  void add_preemption();
  void set_state(const EngineState& state);
  Stats stats() const;

 private:
  struct Produced {
    Clock::time_point end;
    size_t tokens = 0;
  };
  static constexpr size_t kRecent = 256;

  mutable std::mutex mutex_;
  Stats stats_;
  Durations step_, overhead_, first_token_;
  std::array<Produced, kRecent> recent_{};  // steps
};

}  // namespace tinyzh
