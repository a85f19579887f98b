// Who is computed next.  Policy only: numbers in, decisions out; it has no clock, no memory and no tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tinyzh {

// What the policy knows of a request.
struct Stream {
  int32_t priority = 0;
  uint64_t arrival = 0;   // the order of submission
  size_t known = 0;       // tokens
  size_t computed = 0;    // of them
  size_t pages = 0;       // that it has

  size_t pending() const { return known - computed; }  // 1: it draws a token a step
};

class Scheduler {
 public:
  struct Limits {
    size_t streams;         // that run together
    size_t rows;            // of one step; not less than streams
    size_t prompt_rows;     // of them for prompts while others draw: what a long prompt may delay them by
    size_t page_positions;
  };
  explicit Scheduler(const Limits& limits) : limits_(limits) {}

  const Limits& limits() const { return limits_; }

  // The order in which streams are served.
  static bool before(const Stream& a, const Stream& b) {
    return a.priority != b.priority ? a.priority > b.priority : a.arrival < b.arrival;
  }

  struct Allotment {
    std::vector<size_t> rows;       // of each stream in this step: every one that draws gets its row
    std::optional<size_t> preempt;  // instead: memory is short, and this stream is to give its pages back
  };
  // `running` is in the order of service; `free_pages` are those that nobody has.
  Allotment allot(std::span<const Stream> running, size_t free_pages) const;

  enum class Admission { admit, wait, preempt_last };
  // Whether the first of those that wait joins.  It leaves a page for each stream that runs already, so that
  // none of them has to stop for it soon.
  Admission admission(const Stream& first, std::span<const Stream> running, size_t free_pages) const;

 private:
  size_t pages_for(size_t positions) const {
    return (positions + limits_.page_positions - 1) / limits_.page_positions;
  }

  const Limits limits_;
};

}  // namespace tinyzh
