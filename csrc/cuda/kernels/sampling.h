// Drawing a token from logits, with the bits of sample/sampler.cc: sums in the order of the ids, or of the sorted
// candidates, are made by one thread; everything else by all of the block, which has one row.
#pragma once

#include "cuda/kernels/arithmetic.h"

namespace tinyzh::cuda {

inline constexpr unsigned kTile = 1024;    // numbers that lie in shared memory while one thread adds them
inline constexpr unsigned kFewKeys = 2048;  // candidates that are sorted there
inline constexpr unsigned kBins = 1024;     // of probabilities, by their first bits: 1.0 is in bin 1016

// A probability and its token: the larger key comes first, of equal probabilities the lower id.
TINYZH_DEVICE uint64_t key_of(float probability, unsigned token) {
  return static_cast<uint64_t>(bits_of(probability)) << 32 | (0xffffffffu - token);
}
TINYZH_DEVICE float probability_of(uint64_t key) { return float_of(static_cast<uint32_t>(key >> 32)); }
TINYZH_DEVICE int32_t token_of(uint64_t key) { return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(key)); }
// The same for any number that is one: zeros of both signs are equal.
TINYZH_DEVICE uint64_t key_of_logit(float x, unsigned token) {
  const uint32_t bits = bits_of(x == 0 ? 0.0f : x);
  return static_cast<uint64_t>(bits >> 31 ? ~bits : bits | 0x80000000u) << 32 | (0xffffffffu - token);
}
TINYZH_DEVICE unsigned bin_of(float probability) { return bits_of(probability) >> 20; }

// The largest that any thread gives, in all of them.
template <class Shared>
TINYZH_DEVICE uint64_t most_of_block(uint64_t x, Shared& of_warps) {
  x = most_of_warp(x);
  __syncthreads();  // the last call may still be read
  if (lane_of_thread() == 0) of_warps[warp_of_thread()] = x;
  __syncthreads();
  for (unsigned warp = 0; warp < kWarps; ++warp) x = of_warps[warp] > x ? static_cast<uint64_t>(of_warps[warp]) : x;
  return x;
}

// Sorts `count` keys in descending order; keys has room up to the next power of two.
template <class Keys>
TINYZH_DEVICE void sort_keys(Keys& keys, unsigned count) {
  unsigned whole = 1;
  while (whole < count) whole *= 2;
  for (unsigned i = count + threadIdx.x; i < whole; i += kThreads) keys[i] = 0;
  __syncthreads();
  for (unsigned run = 2; run <= whole; run *= 2)
    for (unsigned apart = run / 2; apart > 0; apart /= 2) {
      for (unsigned i = threadIdx.x; i < whole / 2; i += kThreads) {
        const unsigned low = i / apart * apart * 2 + i % apart, high = low + apart;
        const uint64_t a = keys[low], b = keys[high];
        if ((low & run) == 0 ? a < b : a > b) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncthreads();
    }
}

// The token of sorted candidates, by one thread.
template <class Keys>
TINYZH_DEVICE int32_t draw_sorted(const Keys& keys, unsigned count, bool only_top_p, float top_p, float coin) {
  float mass = 1;  // what top_p is a share of
  if (!only_top_p) {
    mass = 0;
    for (unsigned i = 0; i < count; ++i) mass = mass + probability_of(keys[i]);
  }
  float cumulative = 0;
  unsigned kept = count;
  for (unsigned i = 0; i < count; ++i) {
    cumulative = cumulative + probability_of(keys[i]);
    if (top_p < 1 && cumulative > top_p * mass) {
      kept = i + 1;
      break;
    }
  }
  const float point = coin * cumulative;
  float walked = 0;
  for (unsigned i = 0; i < kept; ++i) {
    walked = walked + probability_of(keys[i]);
    if (point < walked) return token_of(keys[i]);
  }
  return token_of(keys[kept - 1]);
}

// For each row s whose slot which[s] is not negative: the slot draws from logits[s] (vocab), which are overwritten.
// scratch (rows, vocab rounded up to a power of two), where vocab > kFewKeys.
TINYZH_KERNEL draw_kernel(Slot* slots, const int32_t* which, float* logits, Drawn* drawn, uint64_t* scratch, size_t scratch_stride,
                          unsigned vocab) {
  TINYZH_SHARED(uint64_t, of_warps, kWarps);
  TINYZH_SHARED(uint64_t, keys, kFewKeys);
  TINYZH_SHARED(float, tile, kTile);
  TINYZH_SHARED(uint32_t, bins, kBins);
  TINYZH_SHARED(uint32_t, number, 1);  // of whatever is being counted
  TINYZH_SHARED(float, total, 1);
  const unsigned row = blockIdx.x, thread = threadIdx.x;
  if (which[row] < 0) return;
  Slot& slot = slots[which[row]];
  float* const p = logits + static_cast<size_t>(row) * vocab;
  const auto answer = [&](int32_t token, float value) {  // by one thread
    drawn[row] = {token, value};
    slot.last = token < 0 ? 0 : token;
    if (token >= 0 && slot.marks) slot.marks[token] = (slot.marks[token] | kSeen) + kOnce;
    ++slot.drawn;
  };

  // Penalties, and the best.
  const uint32_t* const marks = slot.marks;
  const bool bans = slot.drawn < slot.banned_until, repetition = slot.repetition_penalty != 1;
  const bool output = slot.presence_penalty != 0 || slot.frequency_penalty != 0;
  uint64_t broken = 0, best_key = 0;  // broken: the first that is no number
  for (unsigned i = thread; i < vocab; i += kThreads) {
    float x = p[i];
    if (!(x - x == 0) && broken == 0) broken = vocab - i;
    if (marks) {
      const uint32_t mark = marks[i], count = mark / kOnce;
      if (bans && mark & kBanned) x = -INFINITY;
      if (repetition && mark & kSeen) x = x > 0 ? x / slot.repetition_penalty : x * slot.repetition_penalty;
      if (output && count > 0) x = x - (slot.presence_penalty + slot.frequency_penalty * static_cast<float>(count));
      p[i] = x;
    }
    const uint64_t key = key_of_logit(x, i);
    best_key = key > best_key ? key : best_key;
  }
  broken = most_of_block(broken, of_warps);
  best_key = most_of_block(best_key, of_warps);  // a barrier: the drawn token's mark is written after all were read
  const int32_t best = token_of(best_key);
  const float largest_logit = p[best];
  const float temperature = slot.temperature;
  if (broken != 0 || largest_logit == -INFINITY || temperature == 0) {
    const unsigned first = vocab - static_cast<unsigned>(broken);
    if (thread == 0) answer(broken != 0 ? ~static_cast<int32_t>(first) : largest_logit == -INFINITY ? ~static_cast<int32_t>(vocab) : best,
                            broken != 0 ? p[first] : 0.0f);
    return;
  }

  // One random number, and the quotients.
  uint64_t random = slot.random;
  random ^= random >> 12;
  random ^= random << 25;
  random ^= random >> 27;
  const float coin = static_cast<float>(static_cast<uint32_t>(random * 0x2545F4914F6CDD1Dull >> 32) >> 8) / 16777216.0f;
  const float top_p = slot.top_p, min_p = slot.min_p, largest = largest_logit / temperature;
  const int32_t top_k = slot.top_k;
  __syncthreads();  // all have read the slot
  if (thread == 0) slot.random = random;
  if (!(largest - largest == 0)) {  // so cold that the quotient overflows: all the mass is there
    if (thread == 0) answer(best, 0);
    return;
  }

  // e^x, and its sum in the order of the ids.
  float sum = 0;  // of thread 0
  for (unsigned first = 0; first < vocab; first += kTile) {
    const unsigned here = vocab - first < kTile ? vocab - first : kTile;
    for (unsigned i = thread; i < here; i += kThreads) {
      const float e = exp_of(p[first + i] / temperature - largest);
      p[first + i] = e;
      tile[i] = e;
    }
    __syncthreads();
    if (thread == 0) {
      TINYZH_UNROLL(16)
      for (unsigned i = 0; i < here; ++i) sum = sum + tile[i];
      total[0] = sum;
    }
    __syncthreads();
  }
  sum = total[0];
  const float most = 1.0f / sum;  // of all probabilities, since e^0 is 1

  if (!(top_p < 1 || top_k > 0 || min_p > 0)) {  // no filter: a walk in the order of the ids
    float cumulative = 0;  // of thread 0
    if (thread == 0) number[0] = vocab;
    uint64_t last = 0;  // that can be drawn at all: a banned one cannot
    for (unsigned first = 0; first < vocab; first += kTile) {
      const unsigned here = vocab - first < kTile ? vocab - first : kTile;
      __syncthreads();
      for (unsigned i = thread; i < here; i += kThreads) {
        const float probability = p[first + i] / sum;
        tile[i] = probability;
        if (probability != 0) last = first + i;
      }
      __syncthreads();
      if (thread == 0 && number[0] == vocab)
        for (unsigned i = 0; i < here; ++i) {
          cumulative = cumulative + tile[i];
          if (coin < cumulative) {
            number[0] = first + i;
            break;
          }
        }
    }
    last = most_of_block(last, of_warps);
    if (thread == 0) answer(static_cast<int32_t>(number[0] < vocab ? static_cast<uint32_t>(number[0]) : static_cast<uint32_t>(last)), 0);
    return;
  }

  // Candidates.
  const bool only_top_p = top_k <= 0 && min_p <= 0;
  // With top_p alone, what is below this can never be part of the nucleus; with min_p, what is below that share.
  const float cutoff = only_top_p ? (1.0f - top_p) / static_cast<float>(vocab - 1) : min_p > 0 ? min_p * most : 0.0f;
  unsigned least_bin = 0;
  if (top_k > 0 && static_cast<unsigned>(top_k) < vocab) {  // all that may be among the k most probable, and few others
    for (unsigned i = thread; i < kBins; i += kThreads) bins[i] = 0;
    __syncthreads();
    for (unsigned i = thread; i < vocab; i += kThreads) {
      const float probability = p[i] / sum;
      if (probability >= cutoff && probability > 0) bins[bin_of(probability)].add(1);
    }
    __syncthreads();
    if (thread == 0) {
      unsigned bin = kBins - 1, above = 0;
      for (; bin > 0; --bin) {
        above += bins[bin];
        if (above >= static_cast<unsigned>(top_k)) break;
      }
      number[0] = bin;
    }
    __syncthreads();
    least_bin = number[0];
  }
  const auto each_candidate = [&](const auto& f) {
    for (unsigned i = thread; i < vocab; i += kThreads) {
      const float probability = p[i] / sum;
      if (probability >= cutoff && probability > 0 && bin_of(probability) >= least_bin) f(key_of(probability, i));
    }
  };
  __syncthreads();
  if (thread == 0) number[0] = 0;
  __syncthreads();
  unsigned own = 0;
  each_candidate([&](uint64_t) { ++own; });
  if (own > 0) number[0].add(own);
  __syncthreads();
  const unsigned found = number[0];
  if (found == 0) {  // a tiny top_p: the first of the most probable
    uint64_t best_of_all = 0;
    for (unsigned i = thread; i < vocab; i += kThreads) {
      const uint64_t key = key_of(p[i] / sum, i);
      best_of_all = key > best_of_all ? key : best_of_all;
    }
    best_of_all = most_of_block(best_of_all, of_warps);
    if (thread == 0) answer(token_of(best_of_all), 0);
    return;
  }
  __syncthreads();
  if (thread == 0) number[0] = 0;
  __syncthreads();
  const unsigned kept = top_k > 0 && static_cast<unsigned>(top_k) < found ? static_cast<unsigned>(top_k) : found;
  if (found <= kFewKeys) {
    each_candidate([&](uint64_t key) { keys[number[0].add(1)] = key; });
    sort_keys(keys, found);
    if (thread == 0) answer(draw_sorted(keys, kept, only_top_p, top_p, coin), 0);
  } else {
    uint64_t* const many = scratch + row * scratch_stride;
    each_candidate([&](uint64_t key) { many[number[0].add(1)] = key; });
    sort_keys(many, found);
    if (thread == 0) answer(draw_sorted(many, kept, only_top_p, top_p, coin), 0);
  }
}

}  // namespace tinyzh::cuda
