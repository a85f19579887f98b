#include <doctest/doctest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "text/bad_words.h"

using namespace tinyzh;

namespace {

Vocabulary vocabulary_of(const std::vector<std::string>& bytes) {
  std::vector<Piece> pieces;
  for (const std::string& b : bytes) pieces.push_back({b, PieceKind::normal});
  return Vocabulary(std::move(pieces));
}

std::set<int32_t> banned_now(const BadWords& bad_words) {
  std::vector<int32_t> banned;
  bad_words.append_banned(banned);
  return {banned.begin(), banned.end()};
}

bool holds_any(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    if (text.find(word) != std::string::npos) return true;
  return false;
}

}  // namespace

TEST_CASE("bad_words: bans exactly the tokens that would complete a word") {
  const Vocabulary vocabulary = vocabulary_of({"", "a", "b", "c", "ab", "ba", "aa", "abc", "bca", "cab", "aabb", "坏",
                                               "\xE5", "\x9D", "\x8F", "a\xE5", "\x9D\x8F", "\x8F" "b"});
  const std::vector<std::vector<std::string>> sets = {{"aba"}, {"aab", "bb"}, {"abcabc"}, {"坏"}, {"c", "坏a"}, {"aaaa", "a坏"}};
  std::mt19937 random(2);
  for (const std::vector<std::string>& words : sets)
    for (int round = 0; round < 60; ++round) {
      BadWords bad_words(words, vocabulary);
      std::string text;
      for (int step = 0; step < 15; ++step) {
        std::set<int32_t> expected;
        for (int32_t id = 0; id < vocabulary.size(); ++id)
          if (holds_any(text + vocabulary[id].bytes, words)) expected.insert(id);
        CAPTURE(text);
        REQUIRE(banned_now(bad_words) == expected);
        int32_t token;
        do token = static_cast<int32_t>(random() % static_cast<unsigned>(vocabulary.size()));
        while (expected.count(token));
        bad_words.push(token);
        text += vocabulary[token].bytes;
      }
    }
}

TEST_CASE("bad_words: a word cut into bytes is caught at its last byte") {
  const Vocabulary vocabulary = vocabulary_of({"坏", "\xE5", "\x9D", "\x8F", "a"});
  BadWords bad_words({"坏"}, vocabulary);
  CHECK(banned_now(bad_words) == std::set<int32_t>{0});
  bad_words.push(1);
  bad_words.push(2);
  CHECK(banned_now(bad_words) == std::set<int32_t>{0, 3});
  bad_words.push(4);
  CHECK(banned_now(bad_words) == std::set<int32_t>{0});
}

TEST_CASE("bad_words: none ban nothing, with or without a vocabulary") {
  const Vocabulary nothing, some = vocabulary_of({"a"});
  for (const Vocabulary* vocabulary : {&nothing, &some}) {
    BadWords bad_words({}, *vocabulary);
    bad_words.push(0);
    CHECK(banned_now(bad_words).empty());
  }
}
