#include "engine/scheduler.h"

#include <algorithm>

namespace tinyzh {

Scheduler::Allotment Scheduler::allot(std::span<const Stream> running, size_t free_pages) const {
  const auto draws = [](const Stream& s) { return s.pending() == 1; };
  const auto drawing = static_cast<size_t>(std::count_if(running.begin(), running.end(), draws));
  size_t prompt_rows = limits_.rows - std::min(limits_.rows, drawing);
  if (drawing > 0) prompt_rows = std::min(prompt_rows, limits_.prompt_rows);

  Allotment allotment;
  for (const Stream& stream : running) {
    size_t rows = draws(stream) ? 1 : std::min(stream.pending(), prompt_rows);
    if (const size_t most = (stream.pages + free_pages) * limits_.page_positions; stream.computed + rows > most) {
      if (&stream != &running.back()) return {{}, running.size() - 1};
      rows = most - std::min(most, stream.computed);
    }
    const size_t pages = pages_for(stream.computed + rows);
    free_pages -= pages - std::min(pages, stream.pages);
    if (!draws(stream)) prompt_rows -= rows;
    allotment.rows.push_back(rows);
  }
  return allotment;
}

Scheduler::Admission Scheduler::admission(const Stream& first, std::span<const Stream> running, size_t free_pages) const {
  const size_t pages = pages_for(first.known), missing = pages - std::min(pages, first.pages);
  if (running.size() < limits_.streams && missing + running.size() <= free_pages) return Admission::admit;
  if (!running.empty() && first.priority > running.back().priority) return Admission::preempt_last;
  return Admission::wait;
}

}  // namespace tinyzh
