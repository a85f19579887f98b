#include "text/character_map.h"

#include <doctest/doctest.h>

#include <map>
#include <random>

#include "io/expect_error.h"
#include "sentencepiece_bytes.h"

using namespace tinyzh;
using tinyzh::testing::expect_error;

namespace {

CharacterMap map_of(const CharacterMapBytes& bytes) { return CharacterMap(bytes.bytes()); }

void expect_refusal(const std::string& compiled, const std::string& word) {
  expect_error(Code::tokenizer, {word}, [&] { CharacterMap map(compiled); });
}

}  // namespace

TEST_CASE("character map: the longest rule that matches") {
  CharacterMapBytes bytes;
  bytes.add("，", ",").add("e", "E").add("e\u0301", "é").add("\x01", "").add("aaaa", "4").add("a", "1");
  const CharacterMap map = map_of(bytes);
  const auto expect = [&](std::string_view text, size_t length, std::string_view replacement) {
    CAPTURE(text);
    const CharacterMap::Match match = map.longest_match(text);
    CHECK(match.length == length);
    CHECK(match.replacement == replacement);
  };
  expect("，从", 3, ",");
  expect("e\u0301x", 3, "é");
  expect("e\xCC", 1, "E");
  expect("\x01", 1, "");
  expect("aaaa", 4, "4");
  expect("aaa", 1, "1");
  expect("从", 0, "");
  expect("\xEF\xBC", 0, "");
  expect("", 0, "");
  expect(std::string_view("\0a", 2), 0, "");
  CHECK(CharacterMap().longest_match("a").length == 0);
}

TEST_CASE("character map: random rules agree with trying each one") {
  std::mt19937 random(5);
  const std::string letters = "ab\x7F\x80\xFF";
  const auto word = [&](size_t most) {
    std::string text;
    for (size_t n = 1 + random() % most; n > 0; --n) text += letters[random() % letters.size()];
    return text;
  };
  size_t wrong = 0, found = 0;
  for (int round = 0; round < 300; ++round) {
    std::map<std::string, std::string> rules;
    for (size_t n = 1 + random() % 10; n > 0; --n) rules[word(5)] = random() % 4 ? word(4) : "";
    CharacterMapBytes bytes;
    for (const auto& [from, to] : rules) bytes.add(from, to);
    const CharacterMap map = map_of(bytes);
    for (int i = 0; i < 20; ++i) {
      const std::string text = word(8);
      CharacterMap::Match expected;
      for (const auto& [from, to] : rules)
        if (text.starts_with(from) && from.size() > expected.length) expected = {from.size(), to};
      const CharacterMap::Match match = map.longest_match(text);
      wrong += match.length != expected.length || match.replacement != expected.replacement;
      found += expected.length > 0;
    }
  }
  CHECK(wrong == 0);
  CHECK(found > 1000);
}

TEST_CASE("character map: cut at any byte of the trie, or where a replacement begins, it is refused") {
  const std::string whole = CharacterMapBytes().add("a", "xyz").bytes();
  const size_t trie_end = whole.size() - 4;
  for (size_t length = 0; length <= trie_end; length += length < 64 || length + 64 > trie_end ? 1 : 61) {
    CAPTURE(length);
    expect_refusal(whole.substr(0, length), "character map");
  }
  CHECK(CharacterMap(whole.substr(0, trie_end + 2)).longest_match("a").replacement == "xy");  // ends with the file
}

TEST_CASE("character map: sizes that cannot be are refused") {
  const std::string whole = CharacterMapBytes().add("a", "b").bytes();
  for (const uint32_t size : {0u, 1u, 6u, 0x7FFFFFFCu, 0x80000000u, 0xFFFFFFFCu, 0xFFFFFFFFu}) {
    std::string bytes;
    CharacterMapBytes::put(bytes, size);
    expect_refusal(bytes + whole.substr(4), "its trie has " + std::to_string(size));
  }
}

TEST_CASE("character map: a trie that runs in a circle is refused") {
  for (const uint32_t back_to : {0u, 1u, 2u}) {
    CharacterMapBytes bytes;
    bytes.add("abc", "x");
    const uint32_t at = CharacterMapBytes::base(2) + 'c';
    bytes.units[at] = CharacterMapBytes::unit(at, CharacterMapBytes::base(back_to), 'c');
    expect_refusal(bytes.bytes(), "circle");
  }
}

TEST_CASE("character map: rules and replacements have a limit") {
  const std::string most(CharacterMap::kLongestRule, 'a'), text(CharacterMap::kLongestReplacement, 'b');
  const CharacterMap map = map_of(CharacterMapBytes().add(most, text));
  CHECK(map.longest_match(most + "a").length == most.size());
  CHECK(map.longest_match(most).replacement == text);
  expect_refusal(CharacterMapBytes().add(most + "a", "x").bytes(), "longer than 1024");
  expect_refusal(CharacterMapBytes().add("a", text + "b").bytes(), "longer than 1024");

  // Also where two ways share an end: z b... is 1001 bytes long, a... z b... is longer.
  const auto shared = [](uint32_t before) {
    CharacterMapBytes bytes;
    bytes.add("z" + std::string(1000, 'b'), "x").add(std::string(before, 'a'), "y");
    const uint32_t at = CharacterMapBytes::base(1000 + before) + 'a';
    bytes.units[at] = CharacterMapBytes::unit(at, CharacterMapBytes::base(1), 'a');
    return bytes;
  };
  CHECK(map_of(shared(24)).longest_match(std::string(24, 'a') + std::string(1000, 'b')).length == 1024);
  expect_refusal(shared(25).bytes(), "longer than 1024");
}

TEST_CASE("character map: rules that point outside are refused") {
  CharacterMapBytes value;
  value.add("a", "x");
  value.units[CharacterMapBytes::base(1)] = 0x80000000 | static_cast<uint32_t>(value.replacements.size());
  expect_refusal(value.bytes(), "outside");

  CharacterMapBytes unit;
  unit.add("a", "x");
  const uint32_t at = CharacterMapBytes::base(0) + 'a';
  unit.units[at] = CharacterMapBytes::unit(at, 1 << 20, 'a', true);
  expect_refusal(unit.bytes(), "outside");
  unit.units[at] = CharacterMapBytes::unit(at, 1 << 20, 'a', false);  // nothing is read there
  CHECK(map_of(unit).longest_match("aa").length == 0);
}

TEST_CASE("character map: nodes that many ways lead to are looked at once") {
  CharacterMapBytes bytes;
  bytes.add(std::string(40, 'a'), "x");
  for (uint32_t node = 0; node < 40; ++node) {
    const uint32_t at = CharacterMapBytes::base(node) + 'b';
    bytes.units[at] = CharacterMapBytes::unit(at, CharacterMapBytes::base(node + 1), 'b', node == 39);
  }
  const CharacterMap map = map_of(bytes);  // 2^40 ways
  CHECK(map.longest_match(std::string(20, 'a') + std::string(20, 'b')).length == 40);
}
