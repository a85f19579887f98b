#include "text/bpe_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/bpe_merge.h"
#include "text/spelling.h"
#include "text/tokenizer_file.h"
#include "text/utf8.h"

namespace tinyzh {
namespace {

// What NFKC makes of a wide character; empty if it is not one.
std::string narrow_form(std::string_view character) {
  if (character == "…") return "...";
  if (character == "\u3000") return " ";
  if (character < "！" || character > "｝") return {};  // UTF-8 sorts as the code points do
  // U+FF01 - U+0021 = U+FEE0: in the last 12 bits, which the last two bytes carry, EE0.
  const auto bits = [&](size_t i) { return static_cast<unsigned>(character[i]) & 0x3F; };
  return {static_cast<char>((bits(1) << 6 | bits(2)) - 0xEE0)};
}

}  // namespace

int32_t count_tokenizer_entries(std::span<const std::byte> bytes, std::string_view name) {
  return static_cast<int32_t>(read_tokenizer_entries(bytes, name).size());
}

BpeTokenizer::BpeTokenizer(std::span<const std::byte> bytes, int32_t vocab_size, std::string_view name) {
  const std::vector<TokenizerEntry> entries = read_tokenizer_entries(bytes, name);
  if (static_cast<int64_t>(entries.size()) != vocab_size)
    fail(Code::tokenizer, name, " has ", entries.size(), " entries, the model's vocabulary has ", vocab_size,
         ": use the tokenizer that the model was trained with");

  vocabulary_ = Vocabulary(interpret_entries(entries));
  index_ = PieceIndex(vocabulary_);
  scores_.reserve(entries.size());
  for (const TokenizerEntry& entry : entries) scores_.push_back(entry.score);

  byte_ids_.fill(PieceIndex::kAbsent);
  for (int32_t id = vocabulary_.size(); id-- > 0;) {  // downwards: of two tokens the lower id stays
    const Piece& piece = vocabulary_[id];
    if (piece.kind == PieceKind::byte) byte_ids_[static_cast<uint8_t>(piece.bytes[0])] = id;
  }
  has_bytes_ = std::ranges::count(byte_ids_, PieceIndex::kAbsent) == 0;
  has_space_ = index_.find(" ") != PieceIndex::kAbsent;
}

std::vector<int32_t> BpeTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const std::string prepared = prepare(text, options);

  std::vector<int32_t> ids;
  if (options.bos) ids.push_back(Vocabulary::kBos);
  bool after_unknown = false;
  for (const TextPiece& piece : bpe_merge(prepared, {index_, scores_}).pieces) {
    const bool unknown = piece.id == PieceIndex::kAbsent;
    if (!unknown) {
      ids.push_back(piece.id);
    } else if (has_bytes_) {
      // To SentencePiece a space is "▁", so the bytes it falls back to are those of "▁".
      for (const char byte : piece.text == " " ? kSpaceMark : piece.text)
        ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    } else if (!after_unknown) {
      ids.push_back(Vocabulary::kUnknown);
    }
    after_unknown = unknown;
  }
  if (options.eos) ids.push_back(Vocabulary::kEos);
  return ids;
}

std::string BpeTokenizer::decode(std::span<const int32_t> ids) const {
  std::string out;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary_.size())
      fail(Code::invalid_argument, "token id ", id, " is not in the vocabulary: give ids from 0 to ",
           vocabulary_.size() - 1);
    out += vocabulary_[id].bytes;
  }
  return out;
}

// The text as the merges see it: spaces for "▁", the dummy prefix, the space rules, narrow punctuation.
std::string BpeTokenizer::prepare(std::string_view text, const EncodeOptions& options) const {
  std::string out;
  out.reserve(text.size() + 1);
  if (options.dummy_prefix && has_space_ && !text.empty()) out = " ";

  bool skip_space = options.squeeze_spaces;  // before the text's first character, and after a space
  while (!text.empty()) {
    const std::string_view character = text.substr(0, std::max<size_t>(utf8_length(text), 1));
    text.remove_prefix(character.size());
    const size_t before = out.size();
    if (character == kSpaceMark) out += ' ';
    else if (character.size() == 3 && options.narrow_punctuation) out += narrowed(character);
    else out += character;

    const bool space = out.back() == ' ';
    if (space && skip_space) out.resize(before);
    skip_space = options.squeeze_spaces && space;
  }
  // Trailing spaces, and the dummy prefix of a text that had nothing else.
  while (options.squeeze_spaces && out.ends_with(' ')) out.pop_back();
  return out;
}

std::string BpeTokenizer::narrowed(std::string_view character) const {
  const std::string narrow = narrow_form(character);
  const auto has = [&](std::string_view piece) { return index_.find(piece) != PieceIndex::kAbsent; };
  return !narrow.empty() && !has(character) && has(narrow.substr(0, 1)) ? narrow : std::string(character);
}

}  // namespace tinyzh
