#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <span>
#include <utility>

#include "base/aligned.h"

using namespace tinyzh;

TEST_CASE("aligned: aligned, zeroed, of the size asked for") {
  for (size_t size : {1, 3, 64, 1000, 4097}) {
    CAPTURE(size);
    AlignedBuffer<float> buffer(size);
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 64 == 0);
    CHECK(buffer.size() == size);
    CHECK(buffer.bytes() == size * sizeof(float));
    const std::span<const float> all = buffer;
    CHECK(all.size() == size);
    CHECK(std::all_of(all.begin(), all.end(), [](float x) { return x == 0; }));
    buffer[size - 1] = 2;
    CHECK(all.back() == 2);
  }
}

TEST_CASE("aligned: not filled, when that is not wanted") {
  AlignedBuffer<uint64_t> buffer(5000, Allocator::system(), Fill::nothing);
  CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 64 == 0);
  buffer[4999] = 1;
  CHECK(buffer.bytes() == 40000);
}

TEST_CASE("aligned: empty, moved, and too large") {
  const AlignedBuffer<int8_t> empty, none(0);
  CHECK(empty.size() == 0);
  CHECK(none.data() == nullptr);

  AlignedBuffer<int> from(5);
  from[4] = 9;
  const int* data = from.data();
  const AlignedBuffer<int> to = std::move(from);
  CHECK(to.data() == data);
  CHECK(to[4] == 9);

  CHECK_THROWS_AS(AlignedBuffer<double>(SIZE_MAX / 4), std::bad_alloc);  // size * 8 does not fit a size_t
}
