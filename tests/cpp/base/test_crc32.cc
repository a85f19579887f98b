#include "base/crc32.h"

#include <doctest/doctest.h>

#include <string_view>

using namespace tinyzh;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

TEST_CASE("crc32: the value that its definition gives for checking") {
  CHECK(crc32(bytes_of("123456789")) == 0xCBF43926u);
  CHECK(crc32({}) == 0);
  CHECK(crc32(bytes_of("The quick brown fox jumps over the lazy dog")) == 0x414FA339u);
}

TEST_CASE("crc32: pieces give what the whole gives") {
  const auto text = bytes_of("The quick brown fox jumps over the lazy dog");
  for (size_t cut = 0; cut <= text.size(); ++cut)
    CHECK(crc32(text.subspan(cut), crc32(text.first(cut))) == crc32(text));
}
