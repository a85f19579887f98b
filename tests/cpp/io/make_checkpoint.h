// Checkpoints made in memory, straight from the byte tables of docs/formats.md and independent of
// csrc/io, so that reader and writer are each tested against something that is neither.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint.h"

namespace tinyzh::testing {

struct MadeTensor {
  std::vector<std::vector<float>> f32;     // one per layer; fp32 tensors
  std::vector<std::vector<int8_t>> q8;     // one per layer; quantised tensors
  std::vector<std::vector<float>> scales;  // of q8
};

// Where one layer of one tensor lies in the file; tensor "rope" are the RoPE tables.
struct Piece {
  std::string tensor;
  size_t layer, begin, end;
};

struct MadeCheckpoint {
  std::vector<std::byte> bytes;
  std::map<std::string, MadeTensor> tensors;
  std::vector<Piece> pieces;

  // Replaces the bytes of `value` at `offset`.
  template <class T>
  void set(size_t offset, T value) {
    std::memcpy(&bytes.at(offset + sizeof value - 1) - (sizeof value - 1), &value, sizeof value);
  }
};

class CheckpointMaker {
 public:
  CheckpointMaker(const Config& config, Format format, size_t group_size = 0, uint32_t seed = 1)
      : c_(config), format_(format), group_(group_size), random_(seed) {}

  MadeCheckpoint make() {
    header();
    const size_t dim = size(c_.dim), hidden = size(c_.hidden_dim), layers = size(c_.n_layers);
    const size_t kv = dim / size(c_.n_heads) * size(c_.n_kv_heads), vocab = size(c_.vocab_size);
    const size_t positions = size(c_.seq_len);
    if (format_ == Format::v0) {
      matrix("tok_emb", 1, vocab * dim);
      floats("rms_att", layers, dim);
    } else {
      floats("rms_att", layers, dim);
      floats("rms_ffn", layers, dim);
      floats("rms_final", 1, dim);
      matrix("tok_emb", 1, vocab * dim);
    }
    matrix("wq", layers, dim * dim);
    matrix("wk", layers, kv * dim);
    matrix("wv", layers, kv * dim);
    matrix("wo", layers, dim * dim);
    if (format_ == Format::v0) floats("rms_ffn", layers, dim);
    matrix("w1", layers, hidden * dim);
    matrix("w2", layers, dim * hidden);
    matrix("w3", layers, hidden * dim);
    if (format_ == Format::v0) {
      floats("rms_final", 1, dim);
      floats("rope", 1, positions * (dim / size(c_.n_heads)));
    }
    if (!c_.tied) matrix("wcls", 1, vocab * dim);
    return std::move(made_);
  }

 private:
  static size_t size(int32_t n) { return static_cast<size_t>(n); }

  template <class T>
  void put(T value) {
    const auto* from = reinterpret_cast<const std::byte*>(&value);
    made_.bytes.insert(made_.bytes.end(), from, from + sizeof value);
  }

  void header() {
    if (format_ != Format::v0) {
      for (const char c : {'2', '4', 'k', 'a'}) put(c);
      put(format_ == Format::v1 ? 1 : 2);
    }
    const bool negative = format_ == Format::v0 && !c_.tied;
    for (const int32_t n : {c_.dim, c_.hidden_dim, c_.n_layers, c_.n_heads, c_.n_kv_heads,
                            negative ? -c_.vocab_size : c_.vocab_size, c_.seq_len}) {
      put(n);
    }
    if (format_ == Format::v0) return;
    put(static_cast<char>(c_.tied ? 1 : 0));
    if (format_ == Format::v2) put(static_cast<int32_t>(group_));
    made_.bytes.resize(256);
  }

  float number() { return static_cast<float>(random_() % 2001) / 1000.0f - 1.0f; }

  void floats(const std::string& name, size_t layers, size_t count) {
    for (size_t layer = 0; layer < layers; ++layer) {
      const size_t begin = made_.bytes.size();
      std::vector<float> values(count);
      for (float& v : values) put(v = number());
      made_.tensors[name].f32.push_back(std::move(values));
      made_.pieces.push_back({name, layer, begin, made_.bytes.size()});
    }
  }

  void matrix(const std::string& name, size_t layers, size_t count) {
    if (format_ != Format::v2) return floats(name, layers, count);
    for (size_t layer = 0; layer < layers; ++layer) {
      const size_t begin = made_.bytes.size();
      std::vector<int8_t> values(count);
      for (int8_t& v : values) put(v = static_cast<int8_t>(static_cast<int>(random_() % 255) - 127));
      std::vector<float> scales(count / group_);
      for (float& s : scales) put(s = 0.001f + number() * number());
      made_.tensors[name].q8.push_back(std::move(values));
      made_.tensors[name].scales.push_back(std::move(scales));
      made_.pieces.push_back({name, layer, begin, made_.bytes.size()});
    }
  }

  Config c_;
  Format format_;
  size_t group_;
  std::mt19937 random_;
  MadeCheckpoint made_;
};

inline MadeCheckpoint make_checkpoint(const Config& config, Format format, size_t group_size = 0,
                                      uint32_t seed = 1) {
  return CheckpointMaker(config, format, group_size, seed).make();
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// A model and how it is stored.
struct Case {
  std::string name;
  Config config;
  Format format;
  size_t group_size = 0;
};

// Every format, tied and not, with and without grouped queries, and hidden sizes that are no multiple
// of a group or of anything a vector unit likes.
inline std::vector<Case> cases() {
  // dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len, tied
  const Config small{8, 12, 2, 2, 2, 11, 6, true};
  const Config grouped{16, 22, 3, 4, 2, 13, 5, false};
  const Config odd{32, 43, 2, 4, 1, 9, 4, true};        // 43: a prime
  const Config straddling{64, 172, 2, 8, 4, 10, 8, false};  // 172 = 5 * 32 + 12
  const Config story{64, 2268, 1, 1, 1, 7, 3, true};    // the hidden size of the 93M story model
  return {
      {"v0 tied", small, Format::v0},
      {"v0 untied, grouped queries", grouped, Format::v0},
      {"v0 odd", odd, Format::v0},
      {"v1 tied", small, Format::v1},
      {"v1 untied, grouped queries", grouped, Format::v1},
      {"v1 odd", odd, Format::v1},
      {"v2 tied", small, Format::v2, 8},
      {"v2 untied, grouped queries", grouped, Format::v2, 16},
      {"v2 groups of 1", small, Format::v2, 1},
      {"v2 odd", odd, Format::v2, 32},
      {"v2 172 in groups of 32", straddling, Format::v2, 32},
      {"v2 2268 in groups of 64", story, Format::v2, 64},
  };
}

inline std::vector<TensorId> all_tensors() {
  std::vector<TensorId> ids;
  for (size_t i = 0; i < kTensorCount; ++i) ids.push_back(static_cast<TensorId>(i));
  return ids;
}

}  // namespace tinyzh::testing
