// libFuzzer: any bytes are either refused as a SentencePiece model or make a tokenizer that encodes any text.
// Seeds: tests/fuzz/corpus/sentencepiece, made by make_sentencepiece_corpus.py.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "text/sentencepiece_tokenizer.h"

using namespace tinyzh;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void exercise(const SentencePieceTokenizer& tokenizer, std::string_view text) {
  for (const std::optional<bool> dummy : {std::optional<bool>(), std::optional(false), std::optional(true)}) {
    const std::vector<int32_t> ids = tokenizer.encode(text, dummy);
    // A byte of the text, and the dummy, becomes at most one replacement of the character map.
    require(ids.size() <= (text.size() + 1) * 3 * CharacterMap::kLongestReplacement);
    for (const int32_t id : ids) {
      require(id >= 0 && id < tokenizer.vocabulary().size());
      require(tokenizer.vocabulary()[id].kind != PieceKind::control);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // All of the input is the file: its own bytes are the text that its pieces and rules most likely match.
  try {
    const SentencePieceTokenizer tokenizer(std::as_bytes(std::span(data, size)), "input");
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    exercise(tokenizer, text.substr(0, 256));
    exercise(tokenizer, text.substr(size - (size < 256 ? size : 256)));
  } catch (const Error& error) {
    require(error.code() == Code::tokenizer);
  }
  return 0;
}
