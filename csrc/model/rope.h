// Rotary position embedding: the angles, as cosines and sines, one row a position.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "base/fp_env.h"
#include "base/math.h"
#include "io/config.h"

namespace tinyzh {

// angle(position, pair) = position * theta^(-2 pair / head_size), rounded to fp32 where llama2.c and the
// common PyTorch code round (frequency and angle), since models were trained with those angles.
class RopeTable {
 public:
  explicit RopeTable(const Config& config) : pairs_(static_cast<size_t>(config.head_size() / 2)) {
    const StandardFloatingPoint standard;
    for (size_t i = 0; i < pairs_; ++i) {
      const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_size());
      frequencies_.push_back(1.0f / static_cast<float>(math::pow(config.rope_theta, exponent)));
    }
  }

  // Makes rows 0 ... positions - 1 available.  Not while another thread reads.
  void reserve(size_t positions) {
    const StandardFloatingPoint standard;
    if (positions * pairs_ > cos_.size()) {  // memory first: an exception leaves both tables as they were
      const size_t size = std::max(positions * pairs_, 2 * cos_.size());
      cos_.reserve(size);
      sin_.reserve(size);
    }
    for (size_t position = cos_.size() / pairs_; position < positions; ++position)
      for (float frequency : frequencies_) {
        double sine, cosine;
        math::sin_cos(static_cast<float>(position) * frequency, sine, cosine);
        cos_.push_back(static_cast<float>(cosine));
        sin_.push_back(static_cast<float>(sine));
      }
  }
  const float* cos(size_t position) const { return cos_.data() + position * pairs_; }  // (head_size / 2)
  const float* sin(size_t position) const { return sin_.data() + position * pairs_; }

 private:
  size_t pairs_;
  std::vector<float> frequencies_, cos_, sin_;
};

}  // namespace tinyzh
