// logits -> one token.  The order of the steps is the contract of docs/sampling.md:
//   logit_bias, banned tokens -> repetition penalty -> presence and frequency penalties -> temperature
//   -> softmax -> top_k -> min_p -> top_p -> one random number.
// With only temperature and top_p set, the token is the one that llama2.c's `run` draws.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "sample/random.h"

namespace tinyzh {

struct SamplingParams {
  float temperature = 0.9f;          // 0: the most probable token
  float top_p = 0.9f;                // keep the most probable until their sum passes it; >= 1: all
  int32_t top_k = 0;                 // keep the k most probable; 0: all
  float min_p = 0;                   // keep those at least this fraction of the most probable
  float repetition_penalty = 1;      // positive logits / it, negative * it, of tokens in prompt or output
  float presence_penalty = 0;        // subtracted once from tokens in the output
  float frequency_penalty = 0;       // subtracted for each time a token is in the output
  std::vector<std::pair<int32_t, float>> logit_bias;  // token, added
  int32_t logprobs = -1;             // -1: none; 0: of the chosen token; n: and of the n most probable
  uint64_t seed = 1;
};

struct TokenLogprob {
  int32_t token;
  float logprob;
};

struct Sample {
  int32_t token = 0;
  float logprob = 0;               // of the raw logits, when asked for
  std::vector<TokenLogprob> top;   // most probable first, lower id first among equals
};

class Sampler {
 public:
  Sampler(const SamplingParams& params, const Kernels& kernels, int32_t vocab_size, std::span<const int32_t> prompt);

  // Chooses from logits (vocab_size), which it overwrites, without the tokens of `banned`.  Throws
  // Error(Code::generation) when a logit is not a number or nothing is left to choose.
  Sample sample(std::span<float> logits, std::span<const int32_t> banned);

 private:
  struct Candidate {
    float probability;
    int32_t token;
  };
  void log_probabilities(std::span<const float> logits);
  void penalise(std::span<float> logits) const;
  int32_t draw(std::span<float> logits, int32_t best);
  int32_t draw_from_all(std::span<const float> probabilities, float coin) const;
  static bool more_probable(const Candidate& a, const Candidate& b);
  void sort_candidates();
  int32_t draw_filtered(std::span<const float> probabilities, float coin);

  SamplingParams params_;
  const Kernels& kernels_;
  Random random_;
  std::vector<int32_t> counts_;    // (vocab_size): times a token is in the output
  std::vector<bool> seen_;         // (vocab_size): in prompt or output
  std::vector<Candidate> candidates_, sorted_;
  std::vector<float> logprobs_;    // (vocab_size), when asked for
};

// Throws Error(Code::generation) that names the first logit that is not a finite number.
void check_logits(std::span<const float> logits);
// Throw what sample() throws: the logit of this token is no finite number; all tokens are banned.
[[noreturn]] void fail_for_logit(size_t token, float logit);
[[noreturn]] void fail_for_bans(size_t vocab_size);

// What a device needs to draw the tokens of a sequence by itself.
struct Drawing {
  const SamplingParams& params;    // without logit_bias and logprobs
  std::span<const int32_t> prompt, drawn;
  std::span<const int32_t> banned;  // while fewer than banned_until are drawn
  uint32_t banned_until = 0;
};

// Index of the first largest value; n > 0.
int32_t argmax(std::span<const float> values);

// log softmax, in double precision: out[i] = logits[i] - log sum exp(logits).
void log_softmax(std::span<const float> logits, std::span<float> out, const Kernels& kernels);

}  // namespace tinyzh
