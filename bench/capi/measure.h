// What the measuring programs share.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include <tinyzh.h>

using Clock = std::chrono::steady_clock;

inline void check(int32_t code, const tinyzh_error& error) {
  if (code == TINYZH_OK) return;
  std::fprintf(stderr, "%s\n", error.message);
  std::exit(1);
}

inline double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

struct Times {
  std::vector<double> microseconds;

  template <class F>
  auto time(const F& f) {
    const auto start = Clock::now();
    auto result = f();
    microseconds.push_back(microseconds_since(start));
    return result;
  }
  double at(double share) const {
    std::vector<double> sorted = microseconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
  }
  void print(const char* name) const {
    std::fprintf(stderr, "%-26s %8zu calls   p50 %9.1f us   p99 %9.1f us   max %9.1f us\n", name, microseconds.size(),
                 at(0.5), at(0.99), at(1));
  }
};

// A model with its engine.
class Engine {
 public:
  Engine(const char* path, const char* tokenizer, int threads, bool own_thread) {
    tinyzh_error error;
    check(tinyzh_tokenizer_open(tokenizer, 0, &tokenizer_, &error), error);
    tinyzh_model_options model_options = tinyzh_model_options_default();
    model_options.weights = TINYZH_INT8;
    model_options.threads = threads;
    check(tinyzh_model_open(path, &model_options, &model_, &error), error);
    tinyzh_engine_options options = tinyzh_engine_options_default();
    options.own_thread = own_thread;
    check(tinyzh_engine_create(model_, tokenizer_, &options, &engine_, &error), error);
  }
  ~Engine() {
    tinyzh_engine_destroy(engine_);
    tinyzh_model_close(model_);
    tinyzh_tokenizer_close(tokenizer_);
  }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  operator tinyzh_engine*() const { return engine_; }

 private:
  tinyzh_tokenizer* tokenizer_ = nullptr;
  tinyzh_model* model_ = nullptr;
  tinyzh_engine* engine_ = nullptr;
};

// A story of its own for each seed; `sampling` must stay until it is submitted.
inline tinyzh_request story(uint64_t seed, tinyzh_sampling& sampling) {
  sampling = tinyzh_sampling_default();
  sampling.seed = seed;
  tinyzh_request request = tinyzh_request_default();
  request.text = "从前";
  request.text_size = 6;
  request.sampling = &sampling;
  return request;
}
