// What a SentencePiece model does to a text before it cuts it: symbols stay, rules replace characters,
// what is not UTF-8 becomes U+FFFD (one for each byte), and the rules about spaces.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "text/character_map.h"
#include "text/sentencepiece_model.h"
#include "text/symbol_set.h"

namespace tinyzh {

class Normalizer {
 public:
  // Throws Error(Code::tokenizer), without the name of the file, for a broken character map.
  Normalizer(const NormalizerSpec& spec, SymbolSet symbols);

  const SymbolSet& symbols() const { return symbols_; }
  // Whether there is a space in front that the text did not have.
  bool adds_dummy_prefix() const { return spec_.add_dummy_prefix && !spec_.treat_whitespace_as_suffix; }

  // `dummy_prefix`: a space before (after, if the model treats spaces as suffixes) a text that is not
  // empty; not given: as the model says.
  std::string normalize(std::string_view text, std::optional<bool> dummy_prefix = {}) const;

 private:
  struct Step {
    size_t taken;              // from the text
    std::string_view written;  // in its place
  };
  Step step(std::string_view text) const;

  NormalizerSpec spec_;  // without its view
  CharacterMap map_;
  SymbolSet symbols_;
};

}  // namespace tinyzh
