#include "base/crc32.h"

#include <array>

namespace tinyzh {
namespace {

// kTables[k][b]: what byte b does to the remainder when k bytes of zeros follow it.
using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables make_tables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t r = byte;
    for (int bit = 0; bit < 8; ++bit) r = r >> 1 ^ (r & 1 ? 0xEDB88320u : 0u);
    tables[0][byte] = r;
  }
  for (size_t k = 1; k < 8; ++k)
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t r = tables[k - 1][byte];
      tables[k][byte] = r >> 8 ^ tables[0][r & 255];
    }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes, uint32_t before) {
  uint32_t r = ~before;
  const std::byte* p = bytes.data();
  size_t left = bytes.size();
  const auto byte = [&p](size_t i) { return std::to_integer<uint32_t>(p[i]); };
  for (; left >= 8; left -= 8, p += 8)
    r = kTables[7][(r ^ byte(0)) & 255] ^ kTables[6][(r >> 8 ^ byte(1)) & 255] ^
        kTables[5][(r >> 16 ^ byte(2)) & 255] ^ kTables[4][(r >> 24 ^ byte(3)) & 255] ^ kTables[3][byte(4)] ^
        kTables[2][byte(5)] ^ kTables[1][byte(6)] ^ kTables[0][byte(7)];
  for (; left > 0; --left, ++p) r = r >> 8 ^ kTables[0][(r ^ byte(0)) & 255];
  return ~r;
}

}  // namespace tinyzh
