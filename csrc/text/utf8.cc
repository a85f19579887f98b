#include "text/utf8.h"

#include <cstdint>

namespace tinyzh {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Start : uint8_t {
  whole,   // a well-formed code point
  cut,     // the beginning of one, and nothing after it
  broken,  // a maximal ill-formed subpart: no continuation can save it
};

struct Scan {
  size_t length;
  Start start;
};

// What a lead byte promises: the length of the code point and the range of its second byte, which is
// where overlong forms, surrogates and code points above U+10FFFF are shut out.  Further bytes are
// always 80..BF.
struct Lead {
  size_t length;  // 0: not a lead byte
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xC2) return {0};  // a continuation byte, or an overlong form of ASCII
  if (byte < 0xE0) return {2};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

Scan scan(std::string_view bytes) {
  const Lead lead = lead_of(static_cast<uint8_t>(bytes[0]));
  if (lead.length == 0) return {1, Start::broken};
  uint8_t low = lead.low, high = lead.high;
  for (size_t i = 1; i < lead.length; ++i) {
    if (i == bytes.size()) return {i, Start::cut};
    const auto byte = static_cast<uint8_t>(bytes[i]);
    if (byte < low || byte > high) return {i, Start::broken};
    low = 0x80, high = 0xBF;
  }
  return {lead.length, Start::whole};
}

}  // namespace

size_t utf8_length(std::string_view bytes) {
  if (bytes.empty()) return 0;
  const Scan found = scan(bytes);
  return found.start == Start::whole ? found.length : 0;
}

void Utf8Assembler::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined.swap(pending_);
    joined += bytes;
    bytes = joined;
  }
  while (!bytes.empty()) {
    const Scan found = scan(bytes);
    if (found.start == Start::cut) {
      pending_ = bytes;
      return;
    }
    out += found.start == Start::whole ? bytes.substr(0, found.length) : kReplacement;
    bytes.remove_prefix(found.length);
  }
}

// A prefix of a well-formed character is one ill-formed subpart, whatever its length.
void Utf8Assembler::finish(std::string& out) {
  if (!pending_.empty()) out += kReplacement;
  pending_.clear();
}

}  // namespace tinyzh
