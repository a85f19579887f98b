#include "text/tokenizer.h"

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace tinyzh {
namespace {

class BinTokenizer : public Tokenizer {
 public:
  BinTokenizer(std::span<const std::byte> bytes, int32_t vocab_size, std::string_view name)
      : bpe_(bytes, vocab_size, name) {}

  const Vocabulary& vocabulary() const override { return bpe_.vocabulary(); }
  bool adds_dummy_prefix() const override { return bpe_.has_space(); }
  std::vector<int32_t> encode(std::string_view text, bool continues) const override {
    return bpe_.encode(text, {.bos = false, .dummy_prefix = !continues});
  }

 private:
  BpeTokenizer bpe_;
};

class ModelTokenizer : public Tokenizer {
 public:
  ModelTokenizer(std::span<const std::byte> bytes, std::string_view name) : model_(bytes, name) {}

  const Vocabulary& vocabulary() const override { return model_.vocabulary(); }
  bool adds_dummy_prefix() const override { return model_.adds_dummy_prefix(); }
  std::vector<int32_t> encode(std::string_view text, bool continues) const override {
    return model_.encode(text, continues ? std::optional(false) : std::nullopt);
  }

 private:
  SentencePieceTokenizer model_;
};

// A .model begins with the tag of its first field, 0x0A, a .bin with the length of its longest piece, whose
// lowest byte can be 0x0A too: then its entries must fit.
bool is_model(std::span<const std::byte> bytes) {
  if (bytes.empty() || bytes[0] != std::byte{0x0A}) return false;
  try {
    count_tokenizer_entries(bytes, "");
    return false;
  } catch (const Error&) {
    return true;
  }
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(std::span<const std::byte> bytes, int32_t vocab_size, std::string_view name) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (is_model(bytes)) tokenizer = std::make_unique<ModelTokenizer>(bytes, name);
  else tokenizer = std::make_unique<BinTokenizer>(bytes, count_tokenizer_entries(bytes, name), name);

  const int32_t size = tokenizer->vocabulary().size();
  if (vocab_size != 0 && size != vocab_size)
    fail(Code::tokenizer, name, ": has ", size, " pieces, the model's vocabulary ", vocab_size,
         "; pass the tokenizer that belongs to this model");
  return tokenizer;
}

}  // namespace tinyzh
