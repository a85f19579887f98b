// What the calls of a game's loop cost while the model works:  latency MODEL TOKENIZER [THREADS]
//
//   with a thread   64 streams run without end, a request comes and goes every 5 ms: time of submit, poll and cancel
//   in steps        the same streams, tinyzh_engine_step(engine, 2000): time of a call, and how far beyond its budget
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <tinyzh.h>

namespace {

using Clock = std::chrono::steady_clock;

struct Times {
  std::vector<double> microseconds;
  template <class F>
  auto time(const F& f) {
    const auto start = Clock::now();
    auto result = f();
    microseconds.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
    return result;
  }
  void print(const char* name) {
    std::sort(microseconds.begin(), microseconds.end());
    const auto at = [&](double share) { return microseconds[static_cast<size_t>(share * static_cast<double>(microseconds.size() - 1))]; };
    std::printf("%-22s %8zu calls   p50 %9.1f us   p99 %9.1f us   max %9.1f us\n", name, microseconds.size(), at(0.5), at(0.99), at(1));
  }
};

void check(int32_t code, const tinyzh_error& error) {
  if (code == TINYZH_OK) return;
  std::fprintf(stderr, "%s\n", error.message);
  std::exit(1);
}

tinyzh_request chatter(uint64_t seed, tinyzh_sampling& sampling) {
  sampling = tinyzh_sampling_default();
  sampling.seed = seed;
  tinyzh_request request = tinyzh_request_default();
  request.text = "从前";
  request.text_size = 6;
  request.sampling = &sampling;
  request.shift = 1;
  request.min_new_tokens = 1 << 30;
  return request;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: latency MODEL TOKENIZER [THREADS]\n"), 2;
  tinyzh_error error;
  tinyzh_tokenizer* tokenizer;
  check(tinyzh_tokenizer_open(argv[2], 0, &tokenizer, &error), error);
  for (int own_thread : {1, 0}) {
    tinyzh_model* model;
    tinyzh_model_options model_options = tinyzh_model_options_default();
    model_options.weights = TINYZH_INT8;
    model_options.threads = argc > 3 ? std::atoi(argv[3]) : 0;
    check(tinyzh_model_open(argv[1], &model_options, &model, &error), error);
    tinyzh_engine_options options = tinyzh_engine_options_default();
    options.own_thread = own_thread;
    tinyzh_engine* engine;
    check(tinyzh_engine_create(model, tokenizer, &options, &engine, &error), error);
    tinyzh_sampling sampling;
    for (uint64_t i = 1; i <= 63; ++i) {
      const tinyzh_request request = chatter(i, sampling);
      check(tinyzh_engine_submit(engine, &request, nullptr, &error), error);
    }
    Times submit, poll, cancel, step;
    tinyzh_event event;
    const auto start = Clock::now();
    for (uint64_t tick = 0; Clock::now() - start < std::chrono::seconds(10); ++tick) {
      if (own_thread) {
        const tinyzh_request request = chatter(1000 + tick, sampling);
        uint64_t id;
        check(submit.time([&] { return tinyzh_engine_submit(engine, &request, &id, &error); }), error);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        while (poll.time([&] { return tinyzh_engine_poll(engine, &event); })) {
        }
        cancel.time([&] { return tinyzh_engine_cancel(engine, id), 0; });
      } else {
        step.time([&] { return tinyzh_engine_step(engine, 2000); });
        while (tinyzh_engine_poll(engine, &event)) {
        }
      }
    }
    if (own_thread) {
      submit.print("submit");
      poll.print("poll");
      cancel.print("cancel");
    } else {
      step.print("step of 2,000 us");
    }
    tinyzh_engine_destroy(engine);
    tinyzh_model_close(model);
  }
  tinyzh_tokenizer_close(tokenizer);
}
