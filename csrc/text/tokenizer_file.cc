#include "text/tokenizer_file.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "base/error.h"
#include "text/likely_mistake.h"
#include "text/spelling.h"

namespace tinyzh {
namespace {

constexpr size_t kMostBytes = std::numeric_limits<int32_t>::max();  // so that ids and offsets fit
constexpr size_t kHeaderBytes = 4;                                  // max_token_length: not needed
constexpr size_t kEntryHeaderBytes = 4 + 4;                         // score, length
constexpr size_t kReserved = 3;                                     // unknown, BOS, EOS
constexpr size_t kByteValues = 256;

uint32_t little_endian(const std::byte* at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | std::to_integer<uint32_t>(at[i]);
  return value;
}

// What the file may be instead.
std::string instead(std::string_view text) {
  if (text.starts_with("\n\x0e\n\x05<unk>")) return " (it is a SentencePiece model: open it as one)";
  return likely_mistake(text);
}

std::string utf8_of_latin1(size_t code_point) {
  const auto byte = [](size_t value) { return static_cast<char>(static_cast<uint8_t>(value)); };
  if (code_point < 0x80) return {byte(code_point)};
  return {byte(0xC0 | code_point >> 6), byte(0x80 | (code_point & 0x3F))};
}

// Old files write byte b as the character with that number.  One such entry proves nothing ("ä" may be
// an ordinary piece); all 256 of them, in order, where SentencePiece puts its byte tokens, do.
bool bytes_written_as_characters(std::span<const TokenizerEntry> entries) {
  if (entries.size() < kReserved + kByteValues) return false;
  for (size_t b = 0; b < kByteValues; ++b)
    if (entries[kReserved + b].bytes != utf8_of_latin1(b)) return false;
  return true;
}

}  // namespace

std::vector<TokenizerEntry> read_tokenizer_entries(std::span<const std::byte> bytes,
                                                   std::string_view name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto refuse = [&](const auto&... what) {
    fail(Code::tokenizer, name, " is not a tokenizer.bin: ", what..., instead(text));
  };
  if (bytes.size() < kHeaderBytes) refuse("it has ", bytes.size(), " bytes, the header alone takes 4");
  if (bytes.size() > kMostBytes) refuse("it has ", bytes.size(), " bytes, the limit is ", kMostBytes);

  std::vector<TokenizerEntry> entries;
  for (size_t at = kHeaderBytes; at < bytes.size();) {
    const size_t id = entries.size();
    if (bytes.size() - at < kEntryHeaderBytes)
      refuse("entry ", id, " at byte ", at, " needs 8 bytes for its score and length, ",
             bytes.size() - at, " are left");
    const auto score = std::bit_cast<float>(little_endian(bytes.data() + at));
    const auto length = static_cast<int32_t>(little_endian(bytes.data() + at + 4));
    at += kEntryHeaderBytes;
    if (std::isnan(score)) refuse("the score of entry ", id, " is not a number");
    if (length < 0 || static_cast<size_t>(length) > bytes.size() - at)
      refuse("entry ", id, " says that it is ", length, " bytes long, ", bytes.size() - at, " are left");
    entries.push_back({score, text.substr(at, static_cast<size_t>(length))});
    at += static_cast<size_t>(length);
  }
  if (entries.size() < kReserved)
    refuse("it has ", entries.size(), " entries, the unknown token, BOS and EOS alone are 3");
  return entries;
}

std::vector<Piece> interpret_entries(std::span<const TokenizerEntry> entries) {
  const bool characters_are_bytes = bytes_written_as_characters(entries);
  const auto byte_of = [&](size_t id) -> std::optional<uint8_t> {
    if (!characters_are_bytes) return parse_byte_token(entries[id].bytes);
    if (id < kReserved + kByteValues) return static_cast<uint8_t>(id - kReserved);
    return std::nullopt;
  };

  std::vector<Piece> pieces(entries.size());
  for (size_t id = 0; id < entries.size(); ++id) {
    Piece& piece = pieces[id];
    if (id == Vocabulary::kBos || id == Vocabulary::kEos) {
      piece.kind = PieceKind::control;
    } else if (id == Vocabulary::kUnknown) {
      piece = {with_spaces(entries[id].bytes), PieceKind::unknown};
    } else if (const auto byte = byte_of(id)) {
      piece = {std::string(1, static_cast<char>(*byte)), PieceKind::byte};
    } else {
      piece.bytes = with_spaces(entries[id].bytes);
    }
  }
  return pieces;
}

}  // namespace tinyzh
