// A number or a struct out of the bytes of a file, wherever they lie.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>

namespace tinyzh {

static_assert(std::endian::native == std::endian::little, "files are little-endian, and their tensors are used where they lie");

// The caller has checked that sizeof(T) bytes are there.
template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

}  // namespace tinyzh
