#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/half.h"
#include "kernels/inputs.h"
#include "model/kv_cache.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

const Config kConfig{24, 8, 3, 4, 2, 5, 100, true};  // heads of 6: padded to 8
constexpr KvType kTypes[] = {KvType::float32, KvType::float16, KvType::int8};

template <class T>
T at(const std::byte* block, size_t offset) {
  T value;
  std::memcpy(&value, block + offset, sizeof value);
  return value;
}

// What a cache holds of one head: keys and values as the kernels read them.
float stored(KvType type, const std::byte* block, size_t offset, size_t index, size_t scale) {
  switch (type) {
    case KvType::float16: return from_half(at<uint16_t>(block, offset + 2 * index));
    case KvType::int8: return static_cast<float>(at<int8_t>(block, offset + index)) * at<float>(block, scale);
    case KvType::float32: break;
  }
  return at<float>(block, offset + 4 * index);
}

}  // namespace

TEST_CASE("kv_cache: grows by blocks of positions, and keeps where they are") {
  const size_t sizes[] = {3 * 2 * (384 + 512), 3 * 2 * (192 + 256), 3 * 2 * (128 + 128 + 128)};  // layers, heads, pieces
  for (KvType type : kTypes) {
    const KvLayout layout(kConfig, type);
    KvCache cache(layout);
    const size_t block = sizes[static_cast<size_t>(type)];
    CHECK(cache.bytes() == 0);
    cache.reserve(1);
    CHECK(cache.bytes() == block);
    CHECK(layout.block_bytes() == block);
    const std::byte* first = cache.table()[0];
    cache.reserve(16);
    CHECK(cache.bytes() == block);
    cache.reserve(17);
    CHECK(cache.bytes() == 2 * block);
    cache.reserve(100);
    CHECK(cache.bytes() == 7 * block);
    cache.reserve(3);
    CHECK(cache.bytes() == 7 * block);
    CHECK(cache.table()[0] == first);
  }
}

TEST_CASE("kv_cache: what was stored is where the kernels look for it, rounded as its type says") {
  const double steps[] = {0, 0x1p-11, 0.5001 / 127};
  for (KvType type : kTypes)
    for (const Kernels* kernels : runnable_kernels()) {
      Inputs inputs(1);
      const KvLayout layout(kConfig, type);
      KvCache cache(layout);
      std::vector<float> scratch(layout.scratch_floats());
      std::vector<std::vector<float>> keys, values;
      cache.reserve(20);
      for (size_t layer = 0; layer < 3; ++layer)
        for (size_t position = 0; position < 20; ++position) {
          keys.push_back(inputs.plain(12));
          values.push_back(inputs.plain(12));
          layout.store(*kernels, cache.table(), layer, position, keys.back().data(), values.back().data(), scratch.data());
        }
      for (size_t layer = 0; layer < 3; ++layer)
        for (size_t position = 0; position < 20; ++position)
          for (size_t h = 0; h < 2; ++h) {
            const AttentionHead head = layout.head(cache.table(), layer, h, 20);
            const std::byte* block = cache.table()[position / 16];
            const size_t slot = position % 16;
            const auto close = [&](float found, float wanted) {
              const double step = steps[static_cast<size_t>(type)];
              return std::fabs(double{found} - wanted) <= step * (type == KvType::int8 ? 1.0 : std::fabs(wanted)) + 1e-7 * (step > 0);
            };
            for (size_t d = 0; d < 6; ++d) {
              REQUIRE(close(stored(type, block, head.keys, d * 16 + slot, head.key_scales + 4 * slot), keys[layer * 20 + position][h * 6 + d]));
              REQUIRE(close(stored(type, block, head.values, slot * 8 + d, head.value_scales + 4 * slot), values[layer * 20 + position][h * 6 + d]));
            }
          }
    }
}

TEST_CASE("kv_cache: attention over every type has scalar's bits, and is what its stored numbers give") {
  Inputs inputs(3);
  for (int head_size : {2, 4, 20, 64, 88, 128})
    for (KvType type : kTypes) {
      const Config config{2 * head_size, 8, 1, 2, 1, 5, 100, true};
      for (size_t positions = 1; positions <= 70; positions += positions < 36 ? 1 : 7) {
        CAPTURE(head_size);
        CAPTURE(positions);
        const auto size = static_cast<size_t>(head_size);
        const KvLayout layout(config, type);
        KvCache cache(layout);
        std::vector<float> scratch(layout.scratch_floats()), scores(80);
        cache.reserve(positions);
        for (size_t t = 0; t < positions; ++t) {
          const std::vector<float> k = inputs.plain(size), v = inputs.plain(size);
          layout.store(kScalarKernels, cache.table(), 0, t, k.data(), v.data(), scratch.data());
        }
        const std::vector<float> q = inputs.plain(size);
        const AttentionHead head = layout.head(cache.table(), 0, 0, positions);
        const auto attend = [&](const Kernels& k) {
          std::vector<float> out(size);
          k.attention[static_cast<size_t>(type)](out.data(), 0, q.data(), 0, head, 1, scores.data());
          return out;
        };
        const std::vector<float> expected = attend(kScalarKernels);
        for (const Kernels* k : runnable_kernels()) {
          CAPTURE(std::string(k->name));
          CHECK(same(attend(*k), expected));
        }
        // Rows that follow one another, together and alone.
        const size_t rows = std::min<size_t>(1 + positions % kAttentionRows, positions);
        const std::vector<float> many = inputs.plain(rows * size);
        for (const Kernels* k : runnable_kernels()) {
          const auto run = k->attention[static_cast<size_t>(type)];
          std::vector<float> together(rows * (size + 3), 7.0f), scratch_scores(kAttentionRows * 80);
          AttentionHead seen = layout.head(cache.table(), 0, 0, positions - rows + 1);
          run(together.data(), size + 3, many.data(), size, seen, rows, scratch_scores.data());
          for (size_t r = 0; r < rows; ++r, ++seen.positions) {
            std::vector<float> alone(size + 3, 7.0f);
            kScalarKernels.attention[static_cast<size_t>(type)](alone.data(), 0, many.data() + r * size, 0, seen, 1, scratch_scores.data());
            REQUIRE(same(std::span(together).subspan(r * (size + 3), size + 3), alone));
          }
        }
        std::vector<double> weights, sums(size);
        double total = 0;
        for (size_t t = 0; t < positions; ++t) {
          double score = 0;
          for (size_t d = 0; d < size; ++d)
            score += double{q[d]} * stored(type, cache.table()[t / 16], head.keys, d * 16 + t % 16, head.key_scales + 4 * (t % 16));
          weights.push_back(std::exp(score / std::sqrt(head_size)));
          total += weights.back();
          for (size_t d = 0; d < size; ++d)
            sums[d] += weights[t] * stored(type, cache.table()[t / 16], head.values, t % 16 * padded8(size) + d, head.value_scales + 4 * (t % 16));
        }
        for (size_t d = 0; d < size; ++d) REQUIRE(std::fabs(expected[d] - sums[d] / total) < 2e-6);
      }
    }
}
