#include "sample/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/fp_env.h"
#include "base/math.h"

namespace tinyzh {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

}  // namespace

void check_logits(std::span<const float> logits) {
  bool finite = true;
  for (float logit : logits) finite &= logit - logit == 0;  // neither infinite nor NaN
  if (finite) return;
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i])) fail_for_logit(i, logits[i]);
}

void fail_for_logit(size_t token, float logit) {
  fail(Code::generation, "logit of token ", token, " is ", logit,
       ", not a finite number: the checkpoint holds broken weights; download or convert it again");
}

void fail_for_bans(size_t vocab_size) {
  fail(Code::generation, "every one of the ", vocab_size, " tokens is banned by bad_words or logit_bias");
}

int32_t argmax(std::span<const float> values) {
  constexpr size_t kLanes = 16;  // the compiler makes vectors of them
  float largest[kLanes];
  std::fill_n(largest, kLanes, values[0]);
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes)
    for (size_t j = 0; j < kLanes; ++j) largest[j] = values[i + j] > largest[j] ? values[i + j] : largest[j];
  for (; i < values.size(); ++i) largest[0] = values[i] > largest[0] ? values[i] : largest[0];
  const float most = *std::max_element(largest, largest + kLanes);
  const auto found = std::find(values.begin(), values.end(), most);
  return found == values.end() ? 0 : static_cast<int32_t>(found - values.begin());  // NaN equals nothing
}

void log_softmax(std::span<const float> logits, std::span<float> out, const Kernels& kernels) {
  const StandardFloatingPoint standard;
  const float largest = logits[static_cast<size_t>(argmax(logits))];
  std::copy(logits.begin(), logits.end(), out.begin());
  kernels.exp_shifted(out.data(), out.size(), largest);
  double sum = 0;
  for (float e : out) sum += e;
  const double log_sum = math::log(sum) + largest;
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(logits[i] - log_sum);
}

Sampler::Sampler(const SamplingParams& params, const Kernels& kernels, int32_t vocab_size,
                 std::span<const int32_t> prompt)
    : params_(params),
      kernels_(kernels),
      random_(params.seed),
      counts_(static_cast<size_t>(vocab_size)),
      seen_(static_cast<size_t>(vocab_size)),
      logprobs_(params.logprobs >= 0 ? static_cast<size_t>(vocab_size) : 0) {
  for (int32_t token : prompt) seen_[static_cast<size_t>(token)] = true;
}

Sample Sampler::sample(std::span<float> logits, std::span<const int32_t> banned) {
  const StandardFloatingPoint standard;
  check_logits(logits);
  if (!logprobs_.empty()) log_softmax(logits, logprobs_, kernels_);

  for (const auto& [token, bias] : params_.logit_bias) logits[static_cast<size_t>(token)] += bias;
  for (int32_t token : banned) logits[static_cast<size_t>(token)] = kNever;
  penalise(logits);
  const int32_t best = argmax(logits);
  if (logits[static_cast<size_t>(best)] == kNever) fail_for_bans(logits.size());

  Sample result;
  result.token = params_.temperature == 0 ? best : draw(logits, best);
  const auto chosen = static_cast<size_t>(result.token);
  ++counts_[chosen];
  seen_[chosen] = true;
  if (!logprobs_.empty()) {
    result.logprob = logprobs_[chosen];
    std::vector<int32_t> ids(logprobs_.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    const size_t n = std::min(ids.size(), static_cast<size_t>(params_.logprobs));
    std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n), ids.end(), [this](int32_t a, int32_t b) {
      const float pa = logprobs_[static_cast<size_t>(a)], pb = logprobs_[static_cast<size_t>(b)];
      return pa != pb ? pa > pb : a < b;
    });
    for (size_t i = 0; i < n; ++i) result.top.push_back({ids[i], logprobs_[static_cast<size_t>(ids[i])]});
  }
  return result;
}

void Sampler::penalise(std::span<float> logits) const {
  const bool repetition = params_.repetition_penalty != 1;
  const bool output = params_.presence_penalty != 0 || params_.frequency_penalty != 0;
  if (!repetition && !output) return;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (repetition && seen_[i])
      logits[i] = logits[i] > 0 ? logits[i] / params_.repetition_penalty : logits[i] * params_.repetition_penalty;
    if (output && counts_[i] > 0)
      logits[i] -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(counts_[i]);
  }
}

int32_t Sampler::draw(std::span<float> logits, int32_t best) {
  const float coin = random_.next_float();
  for (float& logit : logits) logit /= params_.temperature;
  const float largest = logits[static_cast<size_t>(best)];
  if (!std::isfinite(largest)) return best;  // so cold that the quotient overflows: all the mass is there
  kernels_.exp_shifted(logits.data(), logits.size(), largest);
  float sum = 0;
  for (float e : logits) sum += e;
  for (float& e : logits) e /= sum;  // now probabilities

  const bool filtered = params_.top_p < 1 || params_.top_k > 0 || params_.min_p > 0;
  return filtered ? draw_filtered(logits, coin) : draw_from_all(logits, coin);
}

int32_t Sampler::draw_from_all(std::span<const float> probabilities, float coin) const {
  float cumulative = 0;
  for (size_t i = 0; i < probabilities.size(); ++i) {
    cumulative += probabilities[i];
    if (coin < cumulative) return static_cast<int32_t>(i);
  }
  // Rounding left a gap at the end: the last token that can be drawn at all (a banned one cannot).
  size_t last = probabilities.size() - 1;
  while (probabilities[last] == 0) --last;
  return static_cast<int32_t>(last);
}

bool Sampler::more_probable(const Candidate& a, const Candidate& b) {
  return a.probability != b.probability ? a.probability > b.probability : a.token < b.token;
}

// By more_probable, of candidates in the order of their ids.  Many of them by counting, eleven bits at a time: the
// bits of positive numbers are in the order of the numbers, and equal ones stay in theirs.
void Sampler::sort_candidates() {
  constexpr size_t kFew = 200;
  constexpr uint32_t kBits = 11, kBins = 1 << kBits;
  if (candidates_.size() < kFew) return std::sort(candidates_.begin(), candidates_.end(), more_probable);
  sorted_.resize(candidates_.size());
  for (uint32_t shift = 0; shift < 32; shift += kBits) {
    const auto bin = [shift](const Candidate& c) { return (~std::bit_cast<uint32_t>(c.probability) >> shift) % kBins; };
    std::array<uint32_t, kBins> place{};
    for (const Candidate& c : candidates_) ++place[bin(c)];
    std::exclusive_scan(place.begin(), place.end(), place.begin(), 0u);
    for (const Candidate& c : candidates_) sorted_[place[bin(c)]++] = c;
    candidates_.swap(sorted_);
  }
}

int32_t Sampler::draw_filtered(std::span<const float> probabilities, float coin) {
  const bool only_top_p = params_.top_k <= 0 && params_.min_p <= 0;
  // With top_p alone, what is below this can never be part of the nucleus: fewer to sort.
  const float cutoff =
      only_top_p ? (1.0f - params_.top_p) / static_cast<float>(probabilities.size() - 1) : 0.0f;
  candidates_.clear();
  for (size_t i = 0; i < probabilities.size(); ++i)
    if (probabilities[i] >= cutoff && probabilities[i] > 0) candidates_.push_back({probabilities[i], static_cast<int32_t>(i)});
  if (candidates_.empty()) return argmax(probabilities);  // a tiny top_p
  if (const auto k = static_cast<size_t>(params_.top_k); k > 0 && k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params_.top_k, candidates_.end(), more_probable);
    candidates_.resize(k);
    std::sort(candidates_.begin(), candidates_.end(), more_probable);
  } else {
    sort_candidates();
  }

  const float least = params_.min_p * candidates_.front().probability;
  while (candidates_.size() > 1 && candidates_.back().probability < least) candidates_.pop_back();

  float mass = 1;  // what top_p is a share of
  if (!only_top_p) {
    mass = 0;
    for (const Candidate& c : candidates_) mass += c.probability;
  }
  float cumulative = 0;
  size_t kept = candidates_.size();
  for (size_t i = 0; i < candidates_.size(); ++i) {
    cumulative += candidates_[i].probability;
    if (params_.top_p < 1 && cumulative > params_.top_p * mass) {
      kept = i + 1;
      break;
    }
  }
  const float point = coin * cumulative;
  float walked = 0;
  for (size_t i = 0; i < kept; ++i) {
    walked += candidates_[i].probability;
    if (point < walked) return candidates_[i].token;
  }
  return candidates_[kept - 1].token;
}

}  // namespace tinyzh
