#include <doctest/doctest.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "base/thread_pool.h"

using namespace tinyzh;

namespace {

// Runs one region and checks the contract: each block once, each worker index below threads() and never
// in two blocks at the same time.
void check_region(ThreadPool& pool, size_t blocks) {
  std::vector<std::atomic<int>> visits(blocks), inside(pool.threads());
  std::atomic<int> wrong{0};
  pool.run(blocks, [&](size_t block, size_t worker) {
    if (block >= blocks || worker >= pool.threads()) {
      ++wrong;
      return;
    }
    if (inside[worker].fetch_add(1) != 0) ++wrong;
    ++visits[block];
    inside[worker].fetch_sub(1);
  });
  for (const std::atomic<int>& n : visits)
    if (n != 1) ++wrong;
  CHECK(wrong == 0);
}

double process_cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

TEST_CASE("thread_pool: every block exactly once, no worker twice at a time") {
  for (int threads = 1; threads <= 8; ++threads) {
    CAPTURE(threads);
    ThreadPool pool(threads);
    CHECK(pool.threads() == static_cast<size_t>(threads));
    for (size_t blocks : {0, 1, 2, 3, 7, 64, 1000}) {
      CAPTURE(blocks);
      check_region(pool, blocks);
    }
  }
}

TEST_CASE("thread_pool: what a region wrote is there after it, over many short ones") {
  for (int threads : {2, 3, 5}) {
    ThreadPool pool(threads);
    std::vector<int> values(17);  // not atomic: a missing synchronisation is a data race
    bool right = true;
    for (int round = 1; round <= 3000; ++round) {
      pool.run(values.size(), [&](size_t block, size_t) { values[block] += static_cast<int>(block) + round; });
      for (size_t i = 0; i < values.size(); ++i) {
        right = right && values[i] == static_cast<int>(i) + round;
        values[i] = 0;
      }
    }
    CHECK(right);
  }
}

TEST_CASE("thread_pool: workers help, with indices of their own") {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> by_worker(3);
  pool.run(60, [&](size_t, size_t worker) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ++by_worker[worker];
  });
  for (const std::atomic<int>& n : by_worker) CHECK(n > 0);
}

TEST_CASE("thread_pool: an idle pool sleeps, wakes up again, and ends while asleep") {
  auto pool = std::make_unique<ThreadPool>(4);
  check_region(*pool, 100);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // until the workers have stopped spinning
  const double before = process_cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(process_cpu_seconds() - before < 0.05);
  check_region(*pool, 100);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  pool.reset();
  CHECK(pool == nullptr);
}

TEST_CASE("thread_pool: made and ended many times, at work or not") {
  size_t visits = 0;
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(1 + i % 4);
    std::atomic<size_t> here{0};
    if (i % 2) pool.run(5, [&](size_t, size_t) { ++here; });
    visits += here;
  }
  CHECK(visits == 25 * 5);
}

TEST_CASE("thread_pool: callers may be different threads, one after another") {
  ThreadPool pool(3);
  std::vector<int> sums(40);
  for (int i = 0; i < 10; ++i)
    std::thread([&] { pool.run(sums.size(), [&](size_t block, size_t) { ++sums[block]; }); }).join();
  for (int sum : sums) CHECK(sum == 10);
}

TEST_CASE("cores: there is at least one, and no more than the machine has") {
  CHECK(default_threads() >= 1);
  CHECK(default_threads() <= static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

TEST_CASE("thread_pool: in pieces, each block once, at least one a piece, and none begun too late") {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    std::vector<std::atomic<int>> done(200);
    size_t next = 0, pieces = 0;
    while (next < done.size()) {
      const size_t before = next;
      const bool late = pieces % 3 != 2;  // some pieces have a little time
      const auto deadline = ThreadPool::Clock::now() + std::chrono::microseconds(late ? -1 : 50);
      next = pool.run_until(before, done.size(), [&](size_t block, size_t) { ++done[block]; }, deadline);
      REQUIRE(next > before);
      if (late) REQUIRE(next == before + 1);
      for (size_t i = 0; i < done.size(); ++i) REQUIRE(done[i] == (i < next ? 1 : 0));
      ++pieces;
    }
    CHECK(pieces > 2);
    CHECK(pool.run_until(200, 200, [&](size_t, size_t) { CHECK(false); }, ThreadPool::kNever) == 200);
  }
}
