#include "text/symbol_set.h"

#include <doctest/doctest.h>

#include <random>
#include <set>

using namespace tinyzh;

TEST_CASE("symbols: the longest one that the text begins with") {
  const SymbolSet symbols({"abab", "a", "ab", "b\xFF", "从前", std::string(1, '\0'), "\xFF\xFF"});
  CHECK(symbols.longest_match("ababab") == 4);
  CHECK(symbols.longest_match("abax") == 2);
  CHECK(symbols.longest_match("ax") == 1);
  CHECK(symbols.longest_match("b") == 0);
  CHECK(symbols.longest_match("b\xFF" "a") == 2);
  CHECK(symbols.longest_match("从前") == 6);
  CHECK(symbols.longest_match("从") == 0);
  CHECK(symbols.longest_match(std::string_view("\0\0", 2)) == 1);
  CHECK(symbols.longest_match("\xFF\xFF") == 2);
  CHECK(symbols.longest_match("") == 0);
  CHECK(SymbolSet().longest_match("a") == 0);
}

TEST_CASE("symbols: random sets agree with trying each one") {
  std::mt19937 random(3);
  const std::string letters = {'a', 'b', '\0', '\xFF', '\x80'};
  const auto word = [&](size_t most) {
    std::string text;
    for (size_t n = 1 + random() % most; n > 0; --n) text += letters[random() % letters.size()];
    return text;
  };
  size_t wrong = 0, found = 0;
  for (int round = 0; round < 2000; ++round) {
    std::set<std::string> words;
    for (size_t n = random() % 12; n > 0; --n) words.insert(word(5));
    const std::string text = word(8);
    size_t expected = 0;
    for (const std::string& one : words)
      if (text.starts_with(one)) expected = std::max(expected, one.size());
    wrong += SymbolSet({words.begin(), words.end()}).longest_match(text) != expected;
    found += expected > 0;
  }
  CHECK(wrong == 0);
  CHECK(found > 300);
}
