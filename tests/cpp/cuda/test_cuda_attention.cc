// Attention in an order of its own gives what the ordered one gives, but for the last bits, whatever the cache holds.
// (The ordered one has the bits of the CPU: test_cuda_forward.cc.)
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "cuda/written.h"
#include "model/kv_cache.h"

using namespace tinyzh;
using namespace tinyzh::testing;
using namespace tinyzh::cuda;

namespace {

// Sequences with random keys and values in a cache, and a query for the last position of each.
struct Looking {
  Looking(Inputs& inputs, int32_t head_size, int32_t heads, int32_t kv_heads, KvType type, const std::vector<int32_t>& positions)
      : config{heads * head_size, 8, 1, heads, kv_heads, 8, 512, true},
        kv(config, type),
        layout{0, kv.stride, kv.value_offset, kv.scale_offset, u(kv.head_size), u(padded8(kv.head_size)), u(static_cast<size_t>(heads)),
               u(static_cast<size_t>(kv_heads)), type},
        positions_of_rows(positions),
        tokens(positions.size()),
        q(inputs.plain(positions.size() * static_cast<size_t>(config.dim))) {
    const size_t pairs = kv.head_size / 2, width = kv.kv_heads * kv.head_size;
    const std::vector<float> cos(512 * pairs, 1.0f), sin(512 * pairs, 0.0f);
    for (int32_t last : positions) {
      caches.emplace_back(kv);
      caches.back().reserve(static_cast<size_t>(last) + 1);
      for (int32_t t = 0; t <= last; ++t) {
        std::byte* const* const table = caches.back().table();
        std::vector<float> k = inputs.plain(width), v = inputs.plain(width), nobody(static_cast<size_t>(config.dim));
        rope_store(nullptr, nobody.data(), k.data(), v.data(), {tokens.data(), &t, &table, 1}, cos.data(), sin.data(), layout);
      }
    }
    for (const KvCache& cache : caches) tables.push_back(cache.table());
  }
  size_t rows() const { return tables.size(); }
  Written look(Precision precision) {
    Written out(precision, rows(), static_cast<size_t>(config.dim));
    std::vector<float> scores;
    std::vector<uint32_t> arrived(rows());
    if (needs_scores(precision, layout)) scores.assign(rows() * layout.heads * 512, NAN);
    attend(nullptr, out.view(), q.data(), {tokens.data(), positions_of_rows.data(), tables.data(), u(rows())},
           {scores.data(), 512, arrived.data()}, layout);
    for (uint32_t n : arrived) CHECK(n == 0);
    return out;
  }

  Config config;
  KvLayout kv;
  CacheLayout layout;
  std::vector<int32_t> positions_of_rows, tokens;
  std::vector<float> q;
  std::vector<KvCache> caches;
  std::vector<std::byte* const*> tables;
};

bool near(const Written& found, const Written& expected) {
  for (size_t i = 0; i < found.f32.size(); ++i)
    if (!(std::abs(found.f32[i] - expected.f32[i]) <= 2e-6f)) return false;
  return true;
}

}  // namespace

TEST_CASE("cuda attention: in an order of its own") {
  Inputs inputs(1);
  struct Shape {
    int32_t head_size, heads, kv_heads;
  };
  for (KvType type : {KvType::float32, KvType::float16, KvType::int8})
    for (const Shape& shape : {Shape{2, 2, 1}, {6, 3, 3}, {8, 4, 2}, {12, 2, 2}, {48, 2, 1}, {64, 1, 1}, {80, 1, 1}, {128, 2, 1}}) {
      CAPTURE(kv_type_name(type));
      CAPTURE(shape.head_size);
      Looking looking(inputs, shape.head_size, shape.heads, shape.kv_heads, type, {0, 14, 15, 16, 40, 150});
      const Written expected = looking.look(Precision::float32);
      in_every_order([&] {
        const Written found = looking.look(Precision::float16);
        CHECK(near(found, expected));
        check_narrowed(found, found.f32);
      });
      check_quantised(looking.look(Precision::int8), expected.f32);
    }
}

TEST_CASE("cuda attention: a row has the bits that it has alone, and numbers that are none show") {
  Inputs inputs(2);
  for (KvType type : {KvType::float32, KvType::float16, KvType::int8}) {
    Looking all(inputs, 24, 2, 2, type, {70, 3, 33});
    const Written together = all.look(Precision::bfloat16);
    for (size_t b = 0; b < 3; ++b) {
      Looking alone = Looking(inputs, 24, 2, 2, type, {});
      alone.positions_of_rows = {all.positions_of_rows[b]};
      alone.tokens = {0};
      alone.tables = {all.tables[b]};
      alone.q.assign(all.q.begin() + static_cast<long>(b) * 48, all.q.begin() + static_cast<long>(b) * 48 + 48);
      const Written found = alone.look(Precision::bfloat16);
      CHECK(same(found.f32, std::span<const float>(together.f32).subspan(b * 48, 48)));
    }
    all.q[50] = NAN;
    const Written broken = all.look(Precision::bfloat16);
    CHECK(std::isnan(broken.f32[48]));
    CHECK(same(std::span<const float>(broken.f32).first(48), std::span<const float>(together.f32).first(48)));
  }
}
