#include "text/utf8.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

using tinyzh::utf8_length;
using tinyzh::Utf8Assembler;

namespace {

const std::string kReplacement = "\xEF\xBF\xBD";

// Unicode table 3-7, a row for each kind of well-formed character: ranges of its bytes.
using Row = std::vector<std::pair<int, int>>;
const std::vector<Row> kTable = {
    {{0x00, 0x7F}},
    {{0xC2, 0xDF}, {0x80, 0xBF}},
    {{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}},
    {{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}},
    {{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}},
    {{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}},
};

// The bytes on both sides of every range above.
const std::string kEdges =
    "\x41\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5\xFF";

struct Match {
  size_t bytes;   // the most bytes that some row agrees with
  bool complete;  // all of that row
};

Match best_match(const std::string& text, size_t at) {
  Match best{0, false};
  for (const Row& row : kTable) {
    size_t n = 0;
    while (n < row.size() && at + n < text.size()) {
      const int byte = static_cast<unsigned char>(text[at + n]);
      if (byte < row[n].first || byte > row[n].second) break;
      ++n;
    }
    if (n > best.bytes) best = {n, n == row.size()};
  }
  return best;
}

// The definition: the whole text at once.  `open` receives where a character begins that the end cuts
// off; text.size() if none does.
std::string decode(const std::string& text, size_t* open = nullptr) {
  std::string out;
  size_t at = 0;
  if (open) *open = text.size();
  while (at < text.size()) {
    const Match match = best_match(text, at);
    if (open && !match.complete && match.bytes > 0 && at + match.bytes == text.size()) *open = at;
    out += match.complete ? text.substr(at, match.bytes) : kReplacement;
    at += std::max<size_t>(match.bytes, 1);
  }
  return out;
}

// Pushes `text` in chunks that end after byte i where bit i of `cuts` is set, and compares what is out
// after each chunk: all that is certain, nothing that is not.
bool agrees(const std::string& text, uint32_t cuts) {
  Utf8Assembler assembler;
  std::string out;
  size_t from = 0;
  for (size_t to = 1; to <= text.size(); ++to) {
    if (to < text.size() && !(cuts >> ((to - 1) % 32) & 1)) continue;
    assembler.push(text.substr(from, to - from), out);
    from = to;
    size_t open;
    decode(text.substr(0, to), &open);
    if (out != decode(text.substr(0, open)) || assembler.pending() != (open < to)) return false;
  }
  assembler.finish(out);
  return out == decode(text) && !assembler.pending();
}

}  // namespace

TEST_CASE("utf8_length knows every well-formed code point") {
  CHECK(utf8_length("") == 0);
  CHECK(utf8_length(std::string(1, '\0')) == 1);
  CHECK(utf8_length("ab") == 1);
  CHECK(utf8_length("é") == 2);
  CHECK(utf8_length("从前") == 3);
  CHECK(utf8_length("😀从") == 4);
  CHECK(utf8_length("\xF4\x8F\xBF\xBF") == 4);  // U+10FFFF
}

TEST_CASE("utf8_length refuses what is not well-formed") {
  for (const std::string text : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
                                 "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE4\xB8",
                                 "\xF0\x9F\x98", "\xC2", "\xE4z\xBB"}) {
    CAPTURE(text.size());
    CHECK(utf8_length(text) == 0);
  }
}

TEST_CASE("utf8_length agrees with the table on every string of up to three edge bytes") {
  size_t wrong = 0;
  const auto check = [&](const std::string& text) {
    const Match match = best_match(text, 0);
    wrong += utf8_length(text) != (match.complete ? match.bytes : 0);
  };
  for (const char a : kEdges) {
    check({a});
    for (const char b : kEdges) {
      check({a, b});
      for (const char c : kEdges) check({a, b, c});
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("a character whose bytes come one at a time comes out once, whole") {
  Utf8Assembler assembler;
  std::string out;
  std::vector<std::string> steps;
  for (const char byte : std::string("兔😀")) {
    out.clear();
    assembler.push(std::string_view(&byte, 1), out);
    steps.push_back(out);
  }
  CHECK(steps == std::vector<std::string>{"", "", "兔", "", "", "", "😀"});
  CHECK_FALSE(assembler.pending());
}

TEST_CASE("broken bytes come out as U+FFFD as soon as they are certain") {
  Utf8Assembler assembler;
  std::string out;
  assembler.push("\xE0", out);
  CHECK(out.empty());
  assembler.push("\x80", out);  // E0 80 is an overlong form: two broken parts
  CHECK(out == kReplacement + kReplacement);
  out.clear();
  assembler.push("\xF0\x9F\x98", out);
  CHECK(out.empty());
  assembler.push("a", out);  // three bytes of one character: one broken part
  CHECK(out == kReplacement + "a");
  out.clear();
  assembler.push("\xE4\xB8", out);
  assembler.finish(out);
  CHECK(out == kReplacement);
  CHECK_FALSE(assembler.pending());
  assembler.push("好", out);  // and it can be used again
  CHECK(out == kReplacement + "好");
}

TEST_CASE("every cut of every string of three edge bytes gives what decoding it whole gives") {
  size_t wrong = 0;
  for (const char a : kEdges)
    for (const char b : kEdges)
      for (const char c : kEdges)
        for (uint32_t cuts = 0; cuts < 4; ++cuts) wrong += !agrees({a, b, c}, cuts);
  CHECK(wrong == 0);
}

TEST_CASE("random cuts of random bytes give what decoding them whole gives") {
  std::mt19937 random(20);
  const std::vector<std::string> parts = {"a", "é", "从", "😀", "\xE4", "\xB8", "\xF0\x9F", "\xED\xA0\x80", "\xFF"};
  size_t wrong = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n)
      text += random() % 2 ? parts[random() % parts.size()] : std::string(1, kEdges[random() % kEdges.size()]);
    wrong += !agrees(text, static_cast<uint32_t>(random()));
  }
  CHECK(wrong == 0);
}
