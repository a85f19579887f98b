// Arithmetic on sizes that come from a file or a user: nothing wraps around unseen.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

namespace tinyzh {

inline std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  if (b != 0 && a > std::numeric_limits<uint64_t>::max() / b) return std::nullopt;
  return a * b;
}

inline std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  if (a > std::numeric_limits<uint64_t>::max() - b) return std::nullopt;
  return a + b;
}

}  // namespace tinyzh
