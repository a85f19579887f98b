// What the calls of a game's loop cost while the model works:  latency MODEL TOKENIZER [THREADS]
//
//   with a thread   64 streams run without end, a request comes and goes every 5 ms: time of submit, poll and cancel
//   in steps        the same streams, tinyzh_engine_step(engine, 2000): time of a call, the first ones apart
#include <thread>

#include "measure.h"

namespace {

constexpr auto kTime = std::chrono::seconds(10);

void start_streams(const Engine& engine) {
  tinyzh_error error;
  tinyzh_sampling sampling;
  for (uint64_t seed = 1; seed <= 63; ++seed) {
    tinyzh_request request = story(seed, sampling);
    request.shift = 1;
    request.min_new_tokens = 1 << 30;
    check(tinyzh_engine_submit(engine, &request, nullptr, &error), error);
  }
}

void with_a_thread(const Engine& engine) {
  start_streams(engine);
  Times submit, poll, cancel;
  tinyzh_event event;
  tinyzh_error error;
  tinyzh_sampling sampling;
  uint64_t id, seed = 1000;
  for (const auto start = Clock::now(); Clock::now() - start < kTime; ++seed) {
    const tinyzh_request request = story(seed, sampling);
    check(submit.time([&] { return tinyzh_engine_submit(engine, &request, &id, &error); }), error);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    while (poll.time([&] { return tinyzh_engine_poll(engine, &event); })) {
    }
    cancel.time([&] { return tinyzh_engine_cancel(engine, id), 0; });
  }
  submit.print("submit");
  poll.print("poll");
  cancel.print("cancel");
}

void in_steps(const Engine& engine) {
  start_streams(engine);
  Times first, later;
  tinyzh_event event;
  for (const auto start = Clock::now(); Clock::now() - start < kTime;) {
    Times& step = first.microseconds.size() < 20 ? first : later;
    step.time([&] { return tinyzh_engine_step(engine, 2000); });
    while (tinyzh_engine_poll(engine, &event)) {
    }
  }
  first.print("step of 2,000 us, first");
  later.print("step of 2,000 us");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: latency MODEL TOKENIZER [THREADS]\n"), 2;
  const int threads = argc > 3 ? std::atoi(argv[3]) : 0;
  with_a_thread(Engine(argv[1], argv[2], threads, true));
  in_steps(Engine(argv[1], argv[2], threads, false));
}
