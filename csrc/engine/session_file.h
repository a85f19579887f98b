// A saved session: its tokens, and what they belong to.  Little-endian:
//
//   "tzsess1\n", uint32 numerics version, uint32 number of tokens, uint64 fingerprint of the model, int32 tokens,
//   uint32 CRC-32 of all before
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tinyzh {

// The file, whole or not at all.  Throws Error(Code::file).
void save_session(const std::string& path, uint64_t fingerprint, std::span<const int32_t> tokens);

// Throws Error: file; invalid_argument when it is no session, is damaged, or was saved with another model or other
// numerics, with which the same tokens would go on differently.
std::vector<int32_t> load_session(const std::string& path, uint64_t fingerprint);

// The same of bytes.
std::vector<int32_t> parse_session(std::span<const std::byte> bytes, uint64_t fingerprint, std::string_view name);

}  // namespace tinyzh
