// A game of 60 ticks a second in which characters talk:  ticks MODEL TOKENIZER [TICKS [CHARACTERS [BUDGET]]]
//
//   alone    no engine: how late the system wakes the loop
//   thread   the engine has a thread of its own, one computing thread: how late the loop is then
//   step     tinyzh_engine_step(engine, BUDGET microseconds) in every tick: how far beyond its budget it comes, by
//            the clock and by the time that the processor worked for it (the rest is other programs')
//
// Bind it to one core for `step`, to two for `thread`.  Prints a table to the terminal's error output and, as
// "mode,microseconds,ticks" lines, the histograms to the standard output, for `python -m bench.histogram`.
#include <time.h>

#include <cmath>
#include <map>
#include <thread>

#include "measure.h"

namespace {

constexpr auto kTick = std::chrono::nanoseconds(16'666'667);
constexpr int32_t kTokens = 60;  // of what a character says

struct Game {
  size_t ticks, characters;
  uint32_t budget;
};

// Everyone talks; who has finished waits for a second or so and talks again.
class Characters {
 public:
  Characters(const Engine& engine, size_t count) : engine_(engine), talks_at_(count) {
    for (size_t i = 0; i < count; ++i) talks_at_[i] = i;  // one a tick
  }

  void tick(size_t now) {
    tinyzh_event event;
    while (tinyzh_engine_poll(engine_, &event))
      if (event.type >= TINYZH_EVENT_FINISHED)
        talks_at_[reinterpret_cast<uintptr_t>(event.user)] = now + 45 + event.request * 7 % 30;
    tinyzh_error error;
    tinyzh_sampling sampling;
    for (size_t i = 0; i < talks_at_.size(); ++i) {
      if (talks_at_[i] != now) continue;
      tinyzh_request request = story(++stories_, sampling);
      request.max_new_tokens = request.min_new_tokens = kTokens;
      request.user = reinterpret_cast<void*>(i);
      check(tinyzh_engine_submit(engine_, &request, nullptr, &error), error);
    }
  }
  size_t stories() const { return stories_; }

 private:
  const Engine& engine_;
  std::vector<size_t> talks_at_;
  uint64_t stories_ = 0;
};

double processor_microseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

// Calls tick(n) sixty times a second; how late each one began.
template <class F>
Times loop(size_t ticks, const F& tick) {
  Times late;
  const auto start = Clock::now();
  for (size_t n = 0; n < ticks; ++n) {
    const auto due = start + n * kTick;
    std::this_thread::sleep_until(due);
    late.microseconds.push_back(microseconds_since(due));
    tick(n);
  }
  return late;
}

void report(const char* mode, const char* what, const Times& times) {
  times.print(what);
  std::map<long, size_t> histogram;  // by the lower end of steps of 50 us
  for (double t : times.microseconds) ++histogram[std::lround(std::floor(t / 50)) * 50];
  for (const auto& [from, count] : histogram) std::printf("%s,%ld,%zu\n", mode, from, count);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: ticks MODEL TOKENIZER [TICKS [CHARACTERS [BUDGET]]]\n"), 2;
  const auto number = [&](int i, unsigned long otherwise) { return argc > i ? std::strtoul(argv[i], nullptr, 10) : otherwise; };
  const Game game{number(3, 10000), number(4, 25), static_cast<uint32_t>(number(5, 4000))};

  std::puts("mode,microseconds,ticks");
  report("alone", "late, no engine", loop(game.ticks, [](size_t) {}));
  {
    const Engine engine(argv[1], argv[2], 1, true);
    Characters characters(engine, game.characters);
    report("thread", "late, beside a thread", loop(game.ticks, [&](size_t n) { characters.tick(n); }));
    std::fprintf(stderr, "%zu stories\n", characters.stories());
  }
  const Engine engine(argv[1], argv[2], 1, false);
  Characters characters(engine, game.characters);
  Times beyond, worked;
  loop(game.ticks, [&](size_t n) {
    characters.tick(n);
    const double before = processor_microseconds();
    const auto start = Clock::now();
    tinyzh_engine_step(engine, game.budget);
    beyond.microseconds.push_back(std::max(0.0, microseconds_since(start) - game.budget));
    worked.microseconds.push_back(std::max(0.0, processor_microseconds() - before - game.budget));
  });
  report("step", "step, beyond its budget", beyond);
  report("work", "of it, the processor's time", worked);
  std::fprintf(stderr, "%zu stories\n", characters.stories());
}
