#include "text/normalizer.h"

#include <utility>

#include "text/spelling.h"
#include "text/utf8.h"

namespace tinyzh {

Normalizer::Normalizer(const NormalizerSpec& spec, SymbolSet symbols) : spec_(spec), symbols_(std::move(symbols)) {
  if (!spec.character_map.empty()) map_ = CharacterMap(spec.character_map);
  spec_.character_map = {};
}

std::string Normalizer::normalize(std::string_view text, std::optional<bool> dummy_prefix) const {
  const bool squeeze = spec_.remove_extra_whitespaces;
  const bool dummy = dummy_prefix.value_or(spec_.add_dummy_prefix);
  const std::string_view space = spec_.escape_whitespaces ? kSpaceMark : " ";

  while (squeeze && !text.empty()) {
    const Step next = step(text);
    if (next.written != " ") break;
    text.remove_prefix(next.taken);
  }
  if (text.empty()) return {};

  std::string out;
  out.reserve(text.size() + text.size() / 4 + kSpaceMark.size());
  if (dummy && !spec_.treat_whitespace_as_suffix) out += space;
  bool after_space = squeeze;  // the dummy prefix is not followed by another space
  while (!text.empty()) {
    Step next = step(text);
    text.remove_prefix(next.taken);
    while (after_space && next.written.starts_with(' ')) next.written.remove_prefix(1);
    if (next.written.empty()) continue;
    for (const char c : next.written) c == ' ' ? out += space : out += c;
    after_space = squeeze && next.written.ends_with(' ');
  }
  while (squeeze && out.ends_with(space)) out.resize(out.size() - space.size());
  if (dummy && spec_.treat_whitespace_as_suffix) out += space;
  return out;
}

Normalizer::Step Normalizer::step(std::string_view text) const {
  if (const size_t length = symbols_.longest_match(text)) return {length, text.substr(0, length)};
  if (const CharacterMap::Match rule = map_.longest_match(text); rule.length > 0)
    return {rule.length, rule.replacement};
  if (const size_t length = utf8_length(text)) return {length, text.substr(0, length)};
  return {1, "\uFFFD"};
}

}  // namespace tinyzh
