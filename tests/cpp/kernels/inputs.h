// What the tests of the kernels feed them, and how they compare results.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "base/aligned.h"
#include "kernels/kernels.h"

namespace tinyzh::testing {

// Equal bits; any two not-a-numbers are equal, since their payload is nobody's promise.
inline bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}
inline bool same(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (!same(a[i], b[i])) return false;
  return true;
}

class Inputs {
 public:
  explicit Inputs(uint32_t seed) : random_(seed) {}

  size_t below(size_t n) { return random_() % n; }

  // Between -1 and 1.
  std::vector<float> plain(size_t n) {
    std::uniform_real_distribution<float> numbers(-1, 1);
    std::vector<float> x(n);
    for (float& a : x) a = numbers(random_);
    return x;
  }
  // Of all sizes, with zeros of both signs and subnormal numbers.
  std::vector<float> wild(size_t n) {
    std::vector<float> x = plain(n);
    for (float& a : x) switch (random_() % 8) {
        case 0: a = 0.0f; break;
        case 1: a = -0.0f; break;
        case 2: a *= 1e-39f; break;
        case 3: a *= 1e-20f; break;
        case 4: a *= 1e10f; break;
        default: break;
      }
    return x;
  }
  // Some that are no numbers, or infinite.
  std::vector<float> broken(size_t n) {
    std::vector<float> x = plain(n);
    const float infinity = std::numeric_limits<float>::infinity();
    for (float& a : x) switch (random_() % 40) {
        case 0: a = std::numeric_limits<float>::quiet_NaN(); break;
        case 1: a = infinity; break;
        case 2: a = -infinity; break;
        default: break;
      }
    return x;
  }
  std::vector<float> of_kind(int kind, size_t n) { return kind == 0 ? plain(n) : kind == 1 ? wild(n) : broken(n); }

  // Activations: -127 ... 127.
  std::vector<int8_t> bytes(size_t n) {
    std::vector<int8_t> q(n);
    for (int8_t& a : q) a = static_cast<int8_t>(static_cast<int>(random_() % 255) - 127);
    return q;
  }
  // Weights of a file: -128 too, and often the extremes.
  AlignedBuffer<int8_t> weight_bytes(size_t n) {
    AlignedBuffer<int8_t> q(n);
    for (size_t i = 0; i < n; ++i) {
      const auto r = random_();
      q[i] = static_cast<int8_t>(r % 4 == 0 ? (r & 64 ? -128 : 127) : static_cast<int>(r >> 8 & 255) - 128);
    }
    return q;
  }

 private:
  std::mt19937 random_;
};

inline constexpr int kKinds = 3;

// One head's keys and values in blocks, as KvLayout puts them; whatever lies beyond `positions` is not a
// number, so that a kernel that looks there shows it.
struct Head {
  Head(size_t head_size_, size_t positions_, Inputs& inputs, int kind)
      : head_size(head_size_), positions(positions_), row(padded8(head_size_)), q(inputs.of_kind(kind, head_size_)) {
    const size_t size = head_size * kBlockPositions + kBlockPositions * row;
    for (size_t first = 0; first < positions; first += kBlockPositions) {
      blocks.push_back(inputs.of_kind(kind, size));
      std::vector<float>& block = blocks.back();
      for (size_t p = 0; p < kBlockPositions; ++p) {
        const bool hidden = first + p >= positions;
        for (size_t d = 0; d < head_size && hidden; ++d) block[d * kBlockPositions + p] = not_a_number;
        float* v = block.data() + head_size * kBlockPositions + p * row;
        for (size_t d = 0; d < row; ++d)
          if (d >= head_size) v[d] = 0;
          else if (hidden) v[d] = not_a_number;
      }
    }
    for (const std::vector<float>& block : blocks) table.push_back(reinterpret_cast<const std::byte*>(block.data()));
  }
  float key(size_t t, size_t d) const { return blocks[t / kBlockPositions][d * kBlockPositions + t % kBlockPositions]; }
  float value(size_t t, size_t d) const {
    return blocks[t / kBlockPositions][head_size * kBlockPositions + t % kBlockPositions * row + d];
  }
  std::vector<float> attend(const Kernels& k) const {
    std::vector<float> out(head_size), scores(blocks.size() * kBlockPositions);
    const AttentionHead head{table.data(), 0, head_size * kBlockPositions * sizeof(float), 0, 0, head_size, positions};
    k.attention[static_cast<size_t>(KvType::float32)](out.data(), 0, q.data(), 0, head, 1, scores.data());
    return out;
  }

  static constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
  size_t head_size, positions, row;
  std::vector<float> q;
  std::vector<std::vector<float>> blocks;
  std::vector<const std::byte*> table;
};

// Rows of int8 activations, complete with sums and padding.
struct Activations {
  Activations(const std::vector<int8_t>& rows, size_t batch, std::vector<float> row_scales)
      : cols(rows.size() / batch),
        stride((cols + kGroupColumns - 1) / kGroupColumns * kGroupColumns),
        values(batch * stride),
        sums(batch * stride / kGroupColumns),
        scales(std::move(row_scales)) {
    for (size_t b = 0; b < batch; ++b)
      for (size_t k = 0; k < cols; ++k) {
        values[b * stride + k] = rows[b * cols + k];
        sums[(b * stride + k) / kGroupColumns] += static_cast<float>(rows[b * cols + k]);
      }
  }
  Q8Rows rows() const { return {values.data(), sums.data(), scales.data(), stride}; }

  size_t cols, stride;
  std::vector<int8_t> values;
  std::vector<float> sums, scales;
};

}  // namespace tinyzh::testing
