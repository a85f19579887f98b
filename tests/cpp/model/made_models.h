// Small models of random weights, in every form that the forward pass can meet.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "io/make_checkpoint.h"
#include "model/forward.h"
#include "model/model.h"

namespace tinyzh::testing {

struct Variant {
  std::string name;
  Config config;
  Format format;
  size_t group_size;
  DType dtype;

  std::vector<std::byte> bytes() const { return make_checkpoint(config, format, group_size, 3).bytes; }
  std::shared_ptr<Model> open(int threads, const std::string& isa) const {
    return std::make_shared<Model>(bytes(), ModelOptions{dtype, threads, isa});
  }
};

inline std::vector<Variant> variants() {
  // Grouped queries, head sizes of 8 and 12, a hidden size that groups straddle, and an odd one.
  const Config even{64, 172, 2, 8, 4, 50, 320, false}, odd{48, 43, 2, 4, 2, 31, 320, true};
  return {
      {"float32", even, Format::v0, 0, DType::float32},
      {"float32, odd", odd, Format::v1, 0, DType::float32},
      {"int8 made at load time", even, Format::v0, 0, DType::int8},
      {"int8 made at load time, odd", odd, Format::v0, 0, DType::int8},
      {"int8 of the file, straddling", even, Format::v2, 32, DType::int8},
      {"int8 of the file, straddling, odd", odd, Format::v2, 16, DType::int8},
      {"float32 from int8", odd, Format::v2, 16, DType::float32},
  };
}

inline std::vector<int32_t> random_tokens(const Config& config, size_t n, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % static_cast<uint32_t>(config.vocab_size));
  return tokens;
}

// Logits of every token of a sequence (n, vocab_size), computed in passes of `cut` tokens.
inline std::vector<float> logits_of(Model& model, const std::vector<int32_t>& tokens, size_t cut = 1) {
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  Forward forward(model.weights(), model.kv_layout().type, model.kernels(), model.pool());
  KvCache cache(model.kv_layout());
  cache.reserve(tokens.size());
  std::vector<float> logits(tokens.size() * vocab);
  for (size_t first = 0; first < tokens.size(); first += cut) {
    std::vector<Row> rows;
    for (size_t i = first; i < std::min(first + cut, tokens.size()); ++i)
      rows.push_back({tokens[i], static_cast<int32_t>(i), cache.table(), true});
    forward.run(rows, logits.data() + first * vocab);
  }
  return logits;
}

}  // namespace tinyzh::testing
