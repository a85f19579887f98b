#include "text/sentencepiece_tokenizer.h"

#include <string>
#include <unordered_set>

#include "base/error.h"
#include "text/bpe_merge.h"
#include "text/sentencepiece_model.h"
#include "text/spelling.h"

namespace tinyzh {
namespace {

using Type = SentencePieceType;

bool matches_text(Type type) { return type == Type::normal || type == Type::user_defined || type == Type::unused; }

void check_distinct(const std::vector<SentencePiece>& pieces, std::string_view name) {
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < pieces.size(); ++id)
    if (!seen.insert(pieces[id].text).second)
      fail(Code::tokenizer, name, ": piece ", id, " is '", pieces[id].text.substr(0, 32),
           "', and so is one before it; give a model as SentencePiece's trainer writes it, without repeated pieces");
}

Normalizer make_normalizer(const SentencePieceModel& model, std::string_view name) {
  std::vector<std::string> symbols;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiece& piece = model.pieces[id];
    if (piece.type != Type::user_defined) continue;
    if (piece.text.size() > SentencePieceTokenizer::kLongestSymbol)
      fail(Code::tokenizer, name, ": piece ", id, " is a user-defined symbol of ", piece.text.size(),
           " bytes, the limit is ", SentencePieceTokenizer::kLongestSymbol);
    symbols.emplace_back(piece.text);
  }
  try {
    return {model.normalizer, SymbolSet(std::move(symbols))};
  } catch (const Error& error) {
    fail(Code::tokenizer, name, " is a broken SentencePiece model: ", error.what(), " (download it again)");
  }
}

// The pieces as the file spells them; what no text matches is not there.
PieceIndex make_index(const std::vector<SentencePiece>& pieces) {
  std::vector<Piece> spelled;
  spelled.reserve(pieces.size());
  for (const SentencePiece& piece : pieces)
    spelled.push_back({std::string(piece.text), matches_text(piece.type) ? PieceKind::normal : PieceKind::control});
  return PieceIndex(Vocabulary(std::move(spelled)));
}

Piece meaning(const SentencePiece& piece, const SentencePieceModel& model) {
  switch (piece.type) {
    case Type::unknown: return {std::string(model.unknown_surface), PieceKind::unknown};
    case Type::control: return {{}, PieceKind::control};
    case Type::byte: return {{static_cast<char>(*parse_byte_token(piece.text))}, PieceKind::byte};
    case Type::normal:
    case Type::user_defined:
    case Type::unused: break;
  }
  return {with_spaces(piece.text), PieceKind::normal};
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::span<const std::byte> bytes, std::string_view name)
    : SentencePieceTokenizer(parse_sentencepiece_model(bytes, name), name) {}

SentencePieceTokenizer::SentencePieceTokenizer(const SentencePieceModel& model, std::string_view name)
    : normalizer_(make_normalizer(model, name)), index_(make_index(model.pieces)), has_bytes_(model.byte_fallback) {
  check_distinct(model.pieces, name);
  std::vector<Piece> pieces;
  pieces.reserve(model.pieces.size());
  scores_.reserve(model.pieces.size());
  for (const SentencePiece& piece : model.pieces) {
    const auto id = static_cast<int32_t>(pieces.size());
    pieces.push_back(meaning(piece, model));
    scores_.push_back(piece.score);
    if (piece.type == Type::unused) unused_.push_back(id);
    if (piece.type == Type::unknown) unknown_ = id;
    if (piece.type == Type::byte) byte_ids_[static_cast<uint8_t>(pieces.back().bytes[0])] = id;
  }
  vocabulary_ = Vocabulary(std::move(pieces));
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view text, std::optional<bool> dummy_prefix) const {
  const std::string normalized = normalizer_.normalize(text, dummy_prefix);

  std::vector<int32_t> ids;
  bool after_unknown = false;
  for (const TextPiece& piece : bpe_merge(normalized, {index_, scores_, &normalizer_.symbols(), unused_}).pieces) {
    const bool unknown = piece.id == PieceIndex::kAbsent;
    if (!unknown) {
      ids.push_back(piece.id);
    } else if (has_bytes_) {
      for (const char byte : piece.text) ids.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    } else if (!after_unknown) {  // a run of unknown characters is one unknown piece
      ids.push_back(unknown_);
    }
    after_unknown = unknown;
  }
  return ids;
}

}  // namespace tinyzh
