#include "text/tokenizer.h"

#include "base/error.h"
#include "text/bpe_tokenizer.h"

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

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(std::span<const std::byte> bytes, int32_t vocab_size, std::string_view name) {
  const int32_t size = count_tokenizer_entries(bytes, name);
  if (vocab_size != 0 && size != vocab_size)
    fail(Code::tokenizer, name, ": has ", size, " pieces, the model's vocabulary ", vocab_size,
         "; pass the tokenizer that belongs to this model");
  return std::make_unique<BinTokenizer>(bytes, size, name);
}

}  // namespace tinyzh
