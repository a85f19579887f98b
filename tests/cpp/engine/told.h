// What a request has told, so that it can be compared with another, and many requests at once.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/small_engine.h"

namespace tinyzh::testing {

struct Told {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs, scores;
  std::string text;
  uint64_t hash = 0;
  FinishReason reason = FinishReason::none;
  bool operator==(const Told&) const = default;
};

inline Told told_by(Request& request) {
  Told told;
  told.reason = wait_for_end(request);
  for (const Sample& sample : request.samples()) {
    told.tokens.push_back(sample.token);
    told.logprobs.push_back(sample.logprob);
  }
  told.scores = request.scores();
  told.text = text_of(request);
  told.hash = request.last_logits_hash();
  return told;
}

// An engine's numbers once the step is over that ended the last request.
inline Stats settled(Engine& engine) {
  REQUIRE(soon([&] { return engine.stats().running == 0; }));
  return engine.stats();
}

struct Submitted {
  std::vector<std::shared_ptr<Request>> requests;
  std::set<size_t> cancelled;  // which of them
};

// One after another, with a pause behind one of so many; now and then one of those that came before is cancelled.
inline Submitted submit_and_cancel(Engine& engine, const std::vector<RequestOptions>& asked, std::mt19937& random,
                                   uint32_t one_of, std::chrono::milliseconds pause) {
  Submitted submitted;
  for (const RequestOptions& options : asked) {
    submitted.requests.push_back(engine.submit(options));
    if (random() % one_of == 0) std::this_thread::sleep_for(pause);
    if (random() % 8 == 0) {
      const size_t victim = random() % submitted.requests.size();
      submitted.requests[victim]->cancel();
      submitted.cancelled.insert(victim);
    }
  }
  return submitted;
}

}  // namespace tinyzh::testing
