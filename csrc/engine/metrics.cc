#include "engine/metrics.h"

#include <algorithm>
#include <vector>

namespace tinyzh {

Percentiles Durations::percentiles() const {
  const size_t n = std::min(count_, kSize);
  if (n == 0) return {};
  std::vector<float> sorted(values_.begin(), values_.begin() + static_cast<ptrdiff_t>(n));
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) { return static_cast<double>(sorted[static_cast<size_t>(share * static_cast<double>(n - 1) + 0.5)]); };
  return {at(0.5), at(0.9), at(0.99)};
}

void Metrics::add(const Step& step) {
  const std::scoped_lock lock(mutex_);
  recent_[stats_.steps++ % kRecent] = {step.end, step.new_tokens};
  stats_.new_tokens += step.new_tokens;
  stats_.prompt_tokens += step.prompt_tokens;
  step_.add(step.seconds);
  overhead_.add(step.seconds - step.forward_seconds);
}

void Metrics::add_first_token(double seconds) {
  const std::scoped_lock lock(mutex_);
  first_token_.add(seconds);
}

void Metrics::add_request(size_t reused_tokens) {
  const std::scoped_lock lock(mutex_);
  ++stats_.requests;
  stats_.reused_tokens += reused_tokens;
}

void Metrics::add_preemption() {
  const std::scoped_lock lock(mutex_);
  ++stats_.preemptions;
}

void Metrics::set_state(const EngineState& state) {
  const std::scoped_lock lock(mutex_);
  static_cast<EngineState&>(stats_) = state;
}

Stats Metrics::stats() const {
  const std::scoped_lock lock(mutex_);
  Stats stats = stats_;
  stats.step = step_.percentiles();
  stats.overhead = overhead_.percentiles();
  stats.first_token = first_token_.percentiles();
  // From the end of the oldest step remembered to that of the newest.
  const size_t n = std::min<size_t>(stats_.steps, kRecent);
  if (n > 1) {
    const size_t newest = (stats_.steps - 1) % kRecent, oldest = (stats_.steps - n) % kRecent;
    size_t tokens = 0;
    for (size_t i = 1; i < n; ++i) tokens += recent_[(stats_.steps - n + i) % kRecent].tokens;
    const double seconds = std::chrono::duration<double>(recent_[newest].end - recent_[oldest].end).count();
    if (seconds > 0) stats.tokens_per_second = static_cast<double>(tokens) / seconds;
  }
  return stats;
}

}  // namespace tinyzh
