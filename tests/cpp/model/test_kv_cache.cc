#include <doctest/doctest.h>

#include <vector>

#include "kernels/inputs.h"
#include "model/kv_cache.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {
const Config kConfig{24, 8, 3, 4, 2, 5, 100, true};  // heads of 6: padded to 8
}

TEST_CASE("kv_cache: grows by blocks of positions, and keeps where they are") {
  KvCache cache(kConfig);
  CHECK(cache.bytes() == 0);
  cache.reserve(1);
  const size_t block = 3 * 2 * (6 * 16 + 16 * 8) * sizeof(float);  // layers, kv heads, keys and values
  CHECK(cache.bytes() == block);
  CHECK(cache.layout().block_size() * sizeof(float) == block);
  const float* first = cache.table()[0];
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

TEST_CASE("kv_cache: what was stored is where the kernels look for it") {
  Inputs inputs(1);
  KvCache cache(kConfig);
  const KvLayout& layout = cache.layout();
  std::vector<std::vector<float>> keys, values;
  cache.reserve(20);
  for (size_t layer = 0; layer < 3; ++layer)
    for (size_t position = 0; position < 20; ++position) {
      keys.push_back(inputs.plain(12));
      values.push_back(inputs.plain(12));
      cache.store(layer, position, keys.back().data(), values.back().data());
    }
  for (size_t layer = 0; layer < 3; ++layer)
    for (size_t position = 0; position < 20; ++position)
      for (size_t head = 0; head < 2; ++head) {
        const float* block = cache.table()[position / 16];
        const float* v = block + layout.value_offset(layer, head) + position % 16 * 8;
        for (size_t d = 0; d < 6; ++d) {
          REQUIRE(block[layout.key_offset(layer, head) + d * 16 + position % 16] == keys[layer * 20 + position][head * 6 + d]);
          REQUIRE(v[d] == values[layer * 20 + position][head * 6 + d]);
        }
        REQUIRE(v[6] == 0);  // the padding that kernels read
        REQUIRE(v[7] == 0);
      }
}
