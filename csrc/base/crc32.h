// CRC-32 as zlib, gzip and PNG compute it (reflected polynomial 0xEDB88320), eight bytes a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tinyzh {

// `before` is the CRC of the bytes in front of these, so that a text can come in pieces; 0 for none.
uint32_t crc32(std::span<const std::byte> bytes, uint32_t before = 0);

}  // namespace tinyzh
