// The FNV-1a hash: tells contents apart, and protects nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tinyzh {

inline constexpr uint64_t kFnv1aStart = 0xcbf29ce484222325ull;

// `before` is the hash of the bytes in front of these, so that contents can come in pieces.
inline uint64_t fnv1a(std::span<const std::byte> bytes, uint64_t before = kFnv1aStart) {
  for (std::byte byte : bytes) before = (before ^ static_cast<uint64_t>(byte)) * 0x100000001b3ull;
  return before;
}

}  // namespace tinyzh
