#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "base/unusual_floating_point.h"
#include "io/expect_error.h"
#include "kernels/inputs.h"
#include "sample/sampler.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// llama2.c's `-t 1 -p 0`: the whole distribution as it is.
SamplingParams everything(uint64_t seed = 1) {
  SamplingParams p;
  p.temperature = 1;
  p.top_p = 1;
  p.seed = seed;
  return p;
}
SamplingParams greedy() {
  SamplingParams p = everything();
  p.temperature = 0;
  return p;
}

int32_t sample_once(const SamplingParams& params, std::vector<float> logits, std::vector<int32_t> prompt = {},
                    std::vector<int32_t> banned = {}) {
  return Sampler(params, kScalarKernels, static_cast<int32_t>(logits.size()), prompt).sample(logits, banned).token;
}

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (double p : probabilities) logits.push_back(static_cast<float>(std::log(p)) + 3);
  return logits;
}

// The tokens that a list of seeds draws.
std::set<int32_t> drawn(SamplingParams params, const std::vector<float>& logits, const std::vector<int32_t>& banned = {}) {
  std::set<int32_t> tokens;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    params.seed = seed * 0x9E3779B97F4A7C15u;
    tokens.insert(sample_once(params, logits, {}, banned));
  }
  return tokens;
}

// The rules of docs/sampling.md once more, in double precision, for a coin in [0, 1): the token, and how
// near the coin came to the edge of another one's share.
struct Expected {
  int32_t token = -1;
  double margin = 1;
};
Expected expected_draw(const SamplingParams& params, const std::vector<double>& probabilities, double coin) {
  std::vector<std::pair<double, int32_t>> kept;
  for (size_t i = 0; i < probabilities.size(); ++i) kept.push_back({probabilities[i], static_cast<int32_t>(i)});
  if (params.top_p < 1 || params.top_k > 0 || params.min_p > 0)
    std::stable_sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  if (params.top_k > 0) kept.resize(std::min(kept.size(), static_cast<size_t>(params.top_k)));
  const double least = params.min_p * kept.front().first;
  std::erase_if(kept, [&](const auto& c) { return c.first < least; });
  double mass = 0, sum = 0;
  for (const auto& c : kept) mass += c.first;
  for (size_t i = 0; i < kept.size(); ++i)
    if ((sum += kept[i].first) > params.top_p * mass) {
      if (params.top_p < 1) kept.resize(i + 1);
      break;
    }
  mass = 0;
  for (const auto& c : kept) mass += c.first;
  Expected result;
  double cumulative = 0;
  for (const auto& c : kept) {
    cumulative += c.first / mass;
    result.margin = std::min(result.margin, std::fabs(cumulative - coin));
    if (result.token < 0 && coin < cumulative) result.token = c.second;
  }
  return result;
}

}  // namespace

TEST_CASE("sampler: temperature 0 takes the first of the largest, and no random number") {
  CHECK(sample_once(greedy(), {1, 5, 5, 2}) == 1);
  CHECK(sample_once(greedy(), {-1, -5}) == 0);
  CHECK(argmax(std::vector<float>{2, 2, 2}) == 0);
  CHECK(argmax(std::vector<float>{-kInfinity, 0, 7}) == 2);
  for (uint64_t seed : {1, 2, 3}) {
    SamplingParams p = greedy();
    p.seed = seed;
    CHECK(sample_once(p, {0, 0.1f, 0}) == 1);
  }
}

TEST_CASE("sampler: every parameter set draws the token that the rules give for the seed's coins") {
  const std::vector<double> probabilities = {0.05, 0.3, 0.02, 0.18, 0.01, 0.14, 0.2, 0.1};
  std::vector<SamplingParams> sets(8, everything());
  sets[1].top_p = 0.9f;
  sets[2].top_p = 0.31f;
  sets[3].top_k = 3;
  sets[4].min_p = 0.5f;
  sets[5].top_k = 5;
  sets[5].top_p = 0.6f;
  sets[6].min_p = 0.1f;
  sets[6].top_p = 0.7f;
  sets[7].top_k = 6;
  sets[7].min_p = 0.3f;
  sets[7].top_p = 0.85f;
  for (const SamplingParams& set : sets)
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      SamplingParams params = set;
      params.seed = seed * 0x9E3779B97F4A7C15u;
      for (const Kernels* kernels : runnable_kernels()) {
        Sampler sampler(params, *kernels, 8, {});
        Random coins(params.seed);  // exactly one coin a token: the fifth coin draws the fifth token
        for (int step = 0; step < 10; ++step) {
          std::vector<float> logits = logits_of(probabilities);
          const Expected expected = expected_draw(params, probabilities, coins.next_float());
          const int32_t token = sampler.sample(logits, {}).token;
          if (expected.margin > 1e-5) REQUIRE(token == expected.token);
        }
      }
    }
}

TEST_CASE("sampler: temperature sharpens and flattens") {
  const std::vector<double> probabilities = {0.1, 0.6, 0.3};
  for (float temperature : {0.5f, 2.0f}) {
    std::vector<double> changed;
    double sum = 0;
    for (double p : probabilities) sum += std::pow(p, 1 / temperature);
    for (double p : probabilities) changed.push_back(std::pow(p, 1 / temperature) / sum);
    SamplingParams params = everything(7);
    params.temperature = temperature;
    Sampler sampler(params, kScalarKernels, 3, {});
    Random coins(7);
    for (int step = 0; step < 200; ++step) {
      std::vector<float> logits = logits_of(probabilities);
      const Expected expected = expected_draw(params, changed, coins.next_float());
      const int32_t token = sampler.sample(logits, {}).token;
      if (expected.margin > 1e-5) REQUIRE(token == expected.token);
    }
  }
}

TEST_CASE("sampler: the frequencies are the probabilities") {
  const std::vector<double> probabilities = {0.05, 0.3, 0.02, 0.18, 0.01, 0.14, 0.2, 0.1};
  constexpr int kDraws = 20000;
  for (uint64_t seed : {11, 12, 13}) {
    Sampler sampler(everything(seed), kScalarKernels, 8, {});
    std::vector<int> counts(8);
    for (int i = 0; i < kDraws; ++i) {
      std::vector<float> logits = logits_of(probabilities);
      ++counts[static_cast<size_t>(sampler.sample(logits, {}).token)];
    }
    double chi_square = 0;
    for (size_t i = 0; i < 8; ++i) {
      const double mean = kDraws * probabilities[i];
      chi_square += (counts[i] - mean) * (counts[i] - mean) / mean;
    }
    CHECK(chi_square < 24.3);  // 7 degrees of freedom: one in a thousand is larger
  }
}

TEST_CASE("sampler: among equals a filter keeps the lower ids") {
  const std::vector<float> flat(10, 0.5f);
  SamplingParams p = everything();
  p.top_p = 0.35f;
  CHECK(drawn(p, flat) == std::set<int32_t>{0, 1, 2, 3});
  p = everything();
  p.top_k = 3;
  CHECK(drawn(p, flat) == std::set<int32_t>{0, 1, 2});
  p = everything();
  p.min_p = 1;
  CHECK(drawn(p, flat).size() == 10);
  CHECK(drawn(everything(), flat).size() == 10);
}

TEST_CASE("sampler: top_p keeps the token that passes it; a tiny one keeps the most probable") {
  const std::vector<float> logits = logits_of({0.5, 0.3, 0.2});
  SamplingParams p = everything();
  p.top_p = 0.51f;
  CHECK(drawn(p, logits) == std::set<int32_t>{0, 1});
  p.top_p = 0.49f;
  CHECK(drawn(p, logits) == std::set<int32_t>{0});
  for (float tiny : {1e-3f, 1e-7f, 1e-30f}) {
    p.top_p = tiny;
    CHECK(drawn(p, std::vector<float>(10, 1.0f)) == std::set<int32_t>{0});
    CHECK(drawn(p, {0, 0, 9, 0, 0, 0}) == std::set<int32_t>{2});
  }
}

TEST_CASE("sampler: top_k and min_p at their ends") {
  const std::vector<float> logits = logits_of({0.2, 0.5, 0.3});
  SamplingParams p = everything();
  p.top_k = 1;
  CHECK(drawn(p, logits) == std::set<int32_t>{1});
  p.top_k = 2;
  CHECK(drawn(p, logits) == std::set<int32_t>{1, 2});
  for (int32_t all : {0, 3, 1000}) {
    p.top_k = all;
    CHECK(drawn(p, logits).size() == 3);
  }
  p = everything();
  p.min_p = 1;
  CHECK(drawn(p, logits) == std::set<int32_t>{1});
  p.min_p = 0.59f;
  CHECK(drawn(p, logits) == std::set<int32_t>{1, 2});
  p.min_p = 0.61f;
  CHECK(drawn(p, logits) == std::set<int32_t>{1});
}

TEST_CASE("sampler: the repetition penalty divides positive logits and multiplies negative ones") {
  SamplingParams p = greedy();
  p.repetition_penalty = 1.5f;
  // Token 0 is in the prompt: 3 counts as 2.
  CHECK(sample_once(p, {3, 1.9f, 0}, {0}) == 0);
  CHECK(sample_once(p, {3, 2.1f, 0}, {0}) == 1);
  CHECK(sample_once(p, {3, 2.1f, 0}) == 0);
  // -2 counts as -3.
  CHECK(sample_once(p, {-2, -2.9f}, {0}) == 1);
  CHECK(sample_once(p, {-2, -3.1f}, {0}) == 0);
  // In the output it counts like in the prompt, and once however often.
  Sampler sampler(p, kScalarKernels, 3, std::vector<int32_t>{1, 1});
  std::vector<int32_t> tokens;
  for (int i = 0; i < 4; ++i) {
    std::vector<float> logits = {3, 2.9f, 2.1f};  // 1 is in the prompt: 1.93
    tokens.push_back(sampler.sample(logits, {}).token);
  }
  CHECK(tokens == std::vector<int32_t>{0, 2, 0, 0});
}

TEST_CASE("sampler: presence and frequency penalties look at the output only") {
  auto run = [](float presence, float frequency) {
    SamplingParams p = greedy();
    p.presence_penalty = presence;
    p.frequency_penalty = frequency;
    Sampler sampler(p, kScalarKernels, 3, std::vector<int32_t>{0, 0, 0});
    std::vector<int32_t> tokens;
    for (int i = 0; i < 6; ++i) {
      std::vector<float> logits = {3, 2.5f, 0};
      tokens.push_back(sampler.sample(logits, {}).token);
    }
    return tokens;
  };
  CHECK(run(0, 0) == std::vector<int32_t>{0, 0, 0, 0, 0, 0});
  CHECK(run(0.7f, 0) == std::vector<int32_t>{0, 1, 0, 0, 0, 0});  // 2.3 against 2.5, then against 1.8
  CHECK(run(0, 0.7f) == std::vector<int32_t>{0, 1, 0, 1, 0, 1});  // 3 - 0.7 a time against 2.5 - 0.7 a time
  CHECK(run(-1, 0) == std::vector<int32_t>{0, 0, 0, 0, 0, 0});
}

TEST_CASE("sampler: bias is added, banned tokens never come") {
  SamplingParams p = greedy();
  p.logit_bias = {{2, 4.0f}, {0, -1.0f}, {2, 0.5f}};
  CHECK(sample_once(p, {5, 4.4f, 0}) == 2);  // 4 against 4.4 against 4.5
  p.logit_bias = {{2, 4.0f}};
  CHECK(sample_once(p, {5, 4.4f, 0}) == 0);
  CHECK(sample_once(greedy(), {5, 4, 3}, {}, {0, 0}) == 1);
  CHECK(drawn(everything(), {5, 4, 3}, {0, 1}) == std::set<int32_t>{2});
  SamplingParams narrow = everything();
  narrow.top_p = 0.5f;
  CHECK(drawn(narrow, {50, 40, 3, 3}, {0, 1}).size() == 2);
  narrow.top_k = 3;
  narrow.repetition_penalty = 2;
  CHECK(drawn(narrow, {50, 40, -3, -3}, {0, 1}).size() == 2);
}

TEST_CASE("sampler: nothing left to choose is an error") {
  expect_error(Code::generation, {"3 tokens", "banned"}, [] { sample_once(everything(), {1, 2, 3}, {}, {0, 1, 2}); });
  SamplingParams p = greedy();
  p.logit_bias = {{0, -kInfinity}, {1, -kInfinity}};
  expect_error(Code::generation, {"2 tokens", "banned"}, [&] { sample_once(p, {1, 2}); });
}

TEST_CASE("sampler: logits that are not numbers are an error that names the token") {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity})
    for (const SamplingParams& p : {greedy(), everything()})
      expect_error(Code::generation, {"token 2", "not a finite number"}, [&] { sample_once(p, {1, 2, bad, 3}); });
}

TEST_CASE("sampler: a temperature so small that logits overflow takes the best, and its coin") {
  for (float temperature : {1e-37f, 1e-40f, 1e-45f})
    for (float top_p : {1.0f, 0.9f})
      for (const std::vector<float>& logits : {std::vector<float>{3, 40, 20}, std::vector<float>{-50, -20, -90}}) {
        SamplingParams p = everything();
        p.temperature = temperature;
        p.top_p = top_p;
        CAPTURE(temperature);
        CHECK(drawn(p, logits) == std::set<int32_t>{1});
      }
}

TEST_CASE("sampler: a gap that rounding left at the end draws no banned token") {
  // n equal probabilities whose fp32 sum stays below some coin.
  size_t n = 100;
  float sum = 1;
  for (; sum > 0.99998f; ++n) {
    const float p = 1.0f / static_cast<float>(n);
    sum = 0;
    for (size_t i = 0; i < n; ++i) sum += p;
    if (sum <= 0.99998f) break;
    REQUIRE(n < 20000);
  }
  uint64_t seed = 1;
  while (Random(seed * 0x9E3779B97F4A7C15u).next_float() < sum) ++seed;
  const std::vector<float> flat(n, 0.0f);
  CHECK(sample_once(everything(seed * 0x9E3779B97F4A7C15u), flat) == static_cast<int32_t>(n) - 1);
  std::vector<float> longer(n + 2, 0.0f);
  const auto last = static_cast<int32_t>(n);
  CHECK(sample_once(everything(seed * 0x9E3779B97F4A7C15u), longer, {}, {last, last + 1}) == last - 1);
}

TEST_CASE("sampler: log-probabilities are those of the raw logits") {
  Inputs inputs(3);
  for (size_t vocab : {1, 2, 9, 300}) {
    std::vector<float> raw = inputs.plain(vocab);
    for (float& a : raw) a *= 20;
    double sum = 0;
    for (float a : raw) sum += std::exp(double{a} - raw[static_cast<size_t>(argmax(raw))]);
    const double log_sum = std::log(sum) + raw[static_cast<size_t>(argmax(raw))];

    SamplingParams p = everything(5);
    p.temperature = 3;
    p.top_p = 0.8f;
    p.repetition_penalty = 1.3f;
    p.logit_bias = {{0, 2.0f}};
    p.logprobs = 4;
    Sampler sampler(p, kScalarKernels, static_cast<int32_t>(vocab), {});
    for (int step = 0; step < 5; ++step) {
      std::vector<float> logits = raw;
      const Sample sample = sampler.sample(logits, {});
      CHECK(sample.logprob == doctest::Approx(raw[static_cast<size_t>(sample.token)] - log_sum).epsilon(1e-6));
      REQUIRE(sample.top.size() == std::min<size_t>(4, vocab));
      for (size_t i = 0; i < sample.top.size(); ++i) {
        const auto token = static_cast<size_t>(sample.top[i].token);
        CHECK(sample.top[i].logprob == doctest::Approx(raw[token] - log_sum).epsilon(1e-6));
        CHECK(std::count_if(raw.begin(), raw.end(), [&](float a) { return a > raw[token]; }) <= static_cast<long>(i));
      }
    }
  }
}

TEST_CASE("sampler: as many log-probabilities as asked for, lower ids first among equals") {
  auto top = [](int32_t n) {
    SamplingParams p = greedy();
    p.logprobs = n;
    std::vector<float> logits = {1, 2, 2, 0, 1};
    std::vector<int32_t> ids;
    for (const TokenLogprob& t : Sampler(p, kScalarKernels, 5, {}).sample(logits, {}).top) ids.push_back(t.token);
    return ids;
  };
  CHECK(top(-1).empty());
  CHECK(top(0).empty());
  CHECK(top(2) == std::vector<int32_t>{1, 2});
  CHECK(top(4) == std::vector<int32_t>{1, 2, 0, 4});
  CHECK(top(99) == std::vector<int32_t>{1, 2, 0, 4, 3});

  SamplingParams p = greedy();
  std::vector<float> logits = {1, 2};
  CHECK(Sampler(p, kScalarKernels, 2, {}).sample(logits, {}).logprob == 0);  // not asked for
}

TEST_CASE("sampler: the same tokens and log-probabilities under the floating-point settings of a game") {
  Inputs inputs(8);
  std::vector<float> raw = inputs.plain(200);
  for (float& a : raw) a *= 30;
  auto run = [&] {
    SamplingParams p = everything(9);
    p.top_p = 0.8f;
    p.logprobs = 200;
    std::vector<float> numbers;
    for (const Kernels* kernels : runnable_kernels()) {
      Sampler sampler(p, *kernels, 200, {});
      for (int step = 0; step < 20; ++step) {
        std::vector<float> logits = raw;
        const Sample sample = sampler.sample(logits, {});
        numbers.push_back(static_cast<float>(sample.token));
        for (const TokenLogprob& t : sample.top) numbers.push_back(t.logprob);
      }
      std::vector<float> logprobs(200);
      log_softmax(raw, logprobs, *kernels);
      numbers.insert(numbers.end(), logprobs.begin(), logprobs.end());
    }
    return numbers;
  };
  const std::vector<float> expected = run();
  const size_t half = expected.size() / runnable_kernels().size();
  for (size_t i = 0; i + half < expected.size(); ++i) REQUIRE(expected[i] == expected[i + half]);  // one table or another
  for (const Unusual& setting : unusual_settings()) {
    CAPTURE(setting.name);
    std::vector<float> found;
    {
      const UnusualFloatingPoint unusual(setting);
      found = run();
    }
    CHECK(found == expected);
  }
}
