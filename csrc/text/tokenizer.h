// Text to token ids, whatever file the rules come from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace tinyzh {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual const Vocabulary& vocabulary() const = 0;
  // Whether a text is encoded with a space in front, which decoding takes away again.
  virtual bool adds_dummy_prefix() const = 0;
  // Without BOS; continues: the text follows another one, and no space is put in front.
  virtual std::vector<int32_t> encode(std::string_view text, bool continues) const = 0;
};

// A tokenizer.bin or a SentencePiece .model, told apart by content.  vocab_size: how many pieces it must have; 0: as
// many as it has.  Throws Error(Code::tokenizer).
std::unique_ptr<Tokenizer> open_tokenizer(std::span<const std::byte> bytes, int32_t vocab_size, std::string_view name);

}  // namespace tinyzh
