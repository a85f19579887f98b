#include "text/normalizer.h"

#include <doctest/doctest.h>

#include "sentencepiece_bytes.h"

using namespace tinyzh;

namespace {

NormalizerSpec spec(bool dummy, bool squeeze, bool escape = true) {
  return {.add_dummy_prefix = dummy, .remove_extra_whitespaces = squeeze, .escape_whitespaces = escape};
}

}  // namespace

TEST_CASE("normalizer: a space in front, and spaces as marks") {
  const Normalizer normalizer(spec(true, false), {});
  CHECK(normalizer.normalize("从 前") == "▁从▁前");
  CHECK(normalizer.normalize("  从 ") == "▁▁▁从▁");
  CHECK(normalizer.normalize(" ") == "▁▁");
  CHECK(normalizer.normalize("").empty());
  CHECK(normalizer.normalize("从", false) == "从");
  CHECK(Normalizer(spec(false, false), {}).normalize("从") == "从");
  CHECK(Normalizer(spec(false, false), {}).normalize("从", true) == "▁从");
  CHECK(Normalizer(spec(true, false, false), {}).normalize("从 前") == " 从 前");
}

TEST_CASE("normalizer: extra spaces are removed") {
  const Normalizer normalizer(spec(true, true), {});
  CHECK(normalizer.normalize("  从   前  ") == "▁从▁前");
  CHECK(normalizer.normalize("   ").empty());
  CHECK(normalizer.normalize("从\n\n前\n") == "▁从\n\n前\n");
  CHECK(normalizer.normalize("▁从▁▁前▁") == "▁▁从▁▁前");  // a mark in the text is a space at its end only
  CHECK(Normalizer(spec(true, true, false), {}).normalize(" 从  前 ") == " 从 前");
}

TEST_CASE("normalizer: the dummy at the end") {
  NormalizerSpec suffix = spec(true, true);
  suffix.treat_whitespace_as_suffix = true;
  CHECK(Normalizer(suffix, {}).normalize(" 从 前 ") == "从▁前▁");
  CHECK(Normalizer(suffix, {}).normalize("从", false) == "从");
  CHECK_FALSE(Normalizer(suffix, {}).adds_dummy_prefix());
  suffix.remove_extra_whitespaces = false;
  CHECK(Normalizer(suffix, {}).normalize("从 ") == "从▁▁");
}

TEST_CASE("normalizer: rules, of which some write spaces or nothing") {
  const std::string map =
      CharacterMapBytes().add("，", ",").add("\n", " ").add("\u3000", " ").add("\x01", "").add("…", " . ").bytes();
  NormalizerSpec squeeze = spec(true, true);
  squeeze.character_map = map;
  const Normalizer normalizer(squeeze, {});
  CHECK(normalizer.normalize("从，前") == "▁从,前");
  CHECK(normalizer.normalize("\n\u3000 从\n\n前\n") == "▁从▁前");
  CHECK(normalizer.normalize("从 …前") == "▁从▁.▁前");
  CHECK(normalizer.normalize("…前…") == "▁.▁前▁.");
  CHECK(normalizer.normalize("\x01").empty());
  CHECK(normalizer.normalize("从 \x01 前") == "▁从▁前");
  squeeze.remove_extra_whitespaces = false;
  CHECK(Normalizer(squeeze, {}).normalize("从 …前") == "▁从▁▁.▁前");
  CHECK(Normalizer(squeeze, {}).normalize("\x01") == "▁");
}

TEST_CASE("normalizer: symbols stay as they are") {
  const std::string map = CharacterMapBytes().add("，", ",").add("a", "A").bytes();
  NormalizerSpec mapped = spec(false, true);
  mapped.character_map = map;
  const Normalizer normalizer(mapped, SymbolSet({"，，", "xa", "  "}));
  CHECK(normalizer.normalize("，，，axaa") == "，，,AxaA");
  CHECK(normalizer.normalize("从  前") == "从▁▁前");
}

TEST_CASE("normalizer: every byte that is not UTF-8 becomes U+FFFD") {
  const Normalizer normalizer(spec(false, false), {});
  const std::string broken = "\uFFFD";
  CHECK(normalizer.normalize("\xFF") == broken);
  CHECK(normalizer.normalize("\xE4\xBB从\x80") == broken + broken + "从" + broken);
  CHECK(normalizer.normalize("\xED\xA0\x80") == broken + broken + broken);
  CHECK(normalizer.normalize("\xF4\x90\x80\x80") == broken + broken + broken + broken);
  CHECK(normalizer.normalize(broken) == broken);
  CHECK(normalizer.normalize(std::string_view("a\0b", 3)) == std::string_view("a\0b", 3));
}
