#include <doctest/doctest.h>

#include <numeric>
#include <random>
#include <vector>

#include "engine/scheduler.h"

using namespace tinyzh;

namespace {

const Scheduler::Limits kLimits{.streams = 8, .rows = 32, .prompt_rows = 10, .page_positions = 4};

Stream stream(size_t known, size_t computed, size_t pages, int32_t priority = 0, uint64_t arrival = 0) {
  return {priority, arrival, known, computed, pages};
}

}  // namespace

TEST_CASE("scheduler: the more important first, then the earlier") {
  CHECK(Scheduler::before(stream(1, 0, 0, 2, 9), stream(1, 0, 0, 1, 3)));
  CHECK(Scheduler::before(stream(1, 0, 0, 1, 3), stream(1, 0, 0, 1, 4)));
  CHECK_FALSE(Scheduler::before(stream(1, 0, 0, 1, 4), stream(1, 0, 0, 1, 3)));
  CHECK_FALSE(Scheduler::before(stream(1, 0, 0, -1, 1), stream(1, 0, 0, 0, 7)));
}

TEST_CASE("scheduler: a prompt alone takes the whole step, beside others a part, and never their rows") {
  const Scheduler scheduler(kLimits);
  using Rows = std::vector<size_t>;
  CHECK(scheduler.allot(std::vector{stream(100, 0, 0)}, 99).rows == Rows{32});
  CHECK(scheduler.allot(std::vector{stream(20, 0, 0), stream(20, 0, 0)}, 99).rows == Rows{20, 12});
  CHECK(scheduler.allot(std::vector{stream(100, 0, 0), stream(9, 8, 2), stream(5, 4, 1)}, 99).rows == Rows{10, 1, 1});
  CHECK(scheduler.allot(std::vector{stream(6, 0, 0), stream(9, 8, 2), stream(8, 0, 0), stream(8, 0, 0)}, 99).rows ==
        Rows{6, 1, 4, 0});
  const Scheduler small({.streams = 4, .rows = 4, .prompt_rows = 10, .page_positions = 4});
  const std::vector<Stream> full = {stream(9, 0, 0), stream(9, 8, 3), stream(9, 8, 3), stream(9, 8, 3)};
  CHECK(small.allot(full, 99).rows == Rows{1, 1, 1, 1});
}

TEST_CASE("scheduler: when memory is short the last gives way; the last alone takes what there is") {
  const Scheduler scheduler(kLimits);
  const std::vector<Stream> two = {stream(5, 4, 1, 0, 1), stream(7, 6, 2, 0, 2)};
  CHECK(scheduler.allot(two, 1).rows == std::vector<size_t>{1, 1});
  CHECK(scheduler.allot(two, 0).preempt == 1);
  const std::vector<Stream> prompt_last = {stream(5, 4, 2), stream(30, 0, 0)};
  CHECK(scheduler.allot(prompt_last, 2).rows == std::vector<size_t>{1, 8});
  CHECK(scheduler.allot(prompt_last, 0).rows == std::vector<size_t>{1, 0});
  const std::vector<Stream> prompt_first = {stream(30, 0, 0), stream(5, 4, 2)};
  CHECK(scheduler.allot(prompt_first, 1).preempt == 1);
}

TEST_CASE("scheduler: who waits joins when there is room for its tokens and a page for each that runs") {
  const Scheduler scheduler(kLimits);
  const std::vector<Stream> none, two(2, stream(5, 4, 2, 1));
  using enum Scheduler::Admission;
  CHECK(scheduler.admission(stream(8, 0, 0), none, 2) == admit);
  CHECK(scheduler.admission(stream(9, 0, 0), none, 2) == wait);
  CHECK(scheduler.admission(stream(9, 4, 1), none, 2) == admit);  // one of three is shared
  CHECK(scheduler.admission(stream(8, 0, 0, 1), two, 4) == admit);
  CHECK(scheduler.admission(stream(8, 0, 0, 1), two, 3) == wait);
  CHECK(scheduler.admission(stream(8, 0, 0, 2), two, 3) == preempt_last);
  const std::vector<Stream> full(8, stream(5, 4, 2, 1));
  CHECK(scheduler.admission(stream(1, 0, 0, 1), full, 99) == wait);
  CHECK(scheduler.admission(stream(1, 0, 0, 2), full, 99) == preempt_last);
}

TEST_CASE("scheduler: whatever the load, rows and pages stay within their limits and somebody gets on") {
  const Scheduler scheduler(kLimits);
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    std::vector<Stream> running(random() % 8 + 1);
    for (Stream& s : running) {
      s.known = random() % 40 + 1;
      s.computed = random() % s.known;
      s.pages = (s.computed + 3) / 4;
    }
    const size_t free = random() % 12;
    const Scheduler::Allotment allotment = scheduler.allot(running, free);
    if (allotment.preempt) {
      REQUIRE(*allotment.preempt == running.size() - 1);
      REQUIRE(running.size() > 1);
      continue;
    }
    REQUIRE(allotment.rows.size() == running.size());
    size_t pages = 0, rows = 0;
    for (size_t k = 0; k < running.size(); ++k) {
      const Stream& s = running[k];
      const size_t n = allotment.rows[k];
      REQUIRE(n <= s.pending());
      if (s.pending() == 1 && k + 1 < running.size()) REQUIRE(n == 1);
      const size_t needed = (s.computed + n + 3) / 4;
      pages += needed - std::min(needed, s.pages);
      rows += n;
    }
    REQUIRE(pages <= free);
    REQUIRE(rows <= kLimits.rows);
    if (free > 0) REQUIRE(rows > 0);
  }
}
