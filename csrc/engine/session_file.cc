#include "engine/session_file.h"

#include <cstring>

#include "base/crc32.h"
#include "base/error.h"
#include "base/numerics.h"
#include "io/atomic_file.h"
#include "io/load.h"
#include "io/mapped_file.h"

namespace tinyzh {
namespace {

constexpr char kMagic[] = {'t', 'z', 's', 'e', 's', 's', '1', '\n'};

struct Header {
  char magic[8];
  uint32_t numerics;
  uint32_t count;
  uint64_t fingerprint;
};
static_assert(sizeof(Header) == 24);

}  // namespace

void save_session(const std::string& path, uint64_t fingerprint, std::span<const int32_t> tokens) {
  Header header{{}, static_cast<uint32_t>(kNumericsVersion), static_cast<uint32_t>(tokens.size()), fingerprint};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  const auto bytes = std::as_bytes(std::span(&header, 1));
  const uint32_t crc = crc32(std::as_bytes(tokens), crc32(bytes));
  AtomicFile file(path);
  file.write(&header, sizeof header);
  file.write(tokens.data(), tokens.size_bytes());
  file.write(&crc, sizeof crc);
  file.commit();
}

std::vector<int32_t> parse_session(std::span<const std::byte> bytes, uint64_t fingerprint, std::string_view name) {
  if (bytes.size() < sizeof(Header) + sizeof(uint32_t) || std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0)
    fail(Code::invalid_argument, name, ": not a saved session");
  const auto header = load<Header>(bytes.data());
  const auto crc = load<uint32_t>(bytes.data() + bytes.size() - sizeof(uint32_t));
  const size_t data = bytes.size() - sizeof header - sizeof crc;
  if (data / sizeof(int32_t) != header.count || data % sizeof(int32_t) != 0 || crc != crc32(bytes.first(bytes.size() - sizeof crc)))
    fail(Code::invalid_argument, name, ": the saved session is damaged (its length or its checksum does not fit)");
  if (header.fingerprint != fingerprint)
    fail(Code::invalid_argument, name, ": saved with another model: open the one that it was saved with");
  if (header.numerics != static_cast<uint32_t>(kNumericsVersion))
    fail(Code::invalid_argument, name, ": saved with numerics version ", header.numerics, ", and this is version ",
         kNumericsVersion, ": its tokens would go on differently");
  std::vector<int32_t> tokens(header.count);
  if (data > 0) std::memcpy(tokens.data(), bytes.data() + sizeof header, data);
  return tokens;
}

std::vector<int32_t> load_session(const std::string& path, uint64_t fingerprint) {
  const MappedFile file(path);
  return parse_session(file.bytes(), fingerprint, path);
}

}  // namespace tinyzh
