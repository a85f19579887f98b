#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/stop_strings.h"

using namespace tinyzh;

namespace {

// What comes out of `text`, pushed in the given pieces.
std::string through(StopStrings& stop, const std::vector<std::string>& pieces) {
  std::string out;
  for (const std::string& piece : pieces) {
    out += stop.push(piece);
    if (stop.found()) return out;
  }
  return out + stop.finish();
}

}  // namespace

TEST_CASE("stop_strings: ends before the first to be complete, however the text is cut") {
  const std::vector<std::vector<std::string>> sets = {
      {"ab"}, {"aab"}, {"abab", "ba"}, {"a", "aaaa"}, {"bbbb", "cab", "abc"}, {"。”", "。”a"}, {"aabaab"}};
  const std::vector<std::string> alphabet = {"a", "b", "c", "。", "”"};
  std::mt19937 random(1);
  int stopped = 0;
  for (int round = 0; round < 4000; ++round) {
    const std::vector<std::string>& set = sets[random() % sets.size()];
    const size_t letters = set[0].find("。") == 0 ? 5 : 2 + random() % 2;
    std::vector<std::string> pieces(random() % 12);
    std::string text;
    for (std::string& piece : pieces) {
      for (size_t n = random() % 4; n > 0; --n) piece += alphabet[letters == 5 ? random() % 5 : random() % letters];
      text += piece;
    }
    // Letter by letter, until the text ends with one of them.
    size_t end = std::string::npos;
    for (size_t n = 1; n <= text.size() && end == std::string::npos; ++n)
      for (const std::string& s : set)
        if (std::string_view(text).substr(0, n).ends_with(s)) end = std::min(end, n - s.size());
    StopStrings stop(set);
    CAPTURE(text);
    CHECK(through(stop, pieces) == text.substr(0, end));
    CHECK(stop.found() == (end != std::string::npos));
    stopped += stop.found();
  }
  CHECK(stopped > 1000);
  CHECK(stopped < 3900);
}

TEST_CASE("stop_strings: holds back what may become one, and no more") {
  StopStrings stop({"END", "NO"});
  CHECK(stop.push("the ") == "the ");
  CHECK(stop.push("E") == "");
  CHECK(stop.push("N") == "");
  CHECK(stop.push("N") == "EN");  // the last N may begin NO
  CHECK(stop.push("E") == "N");
  CHECK(stop.push("N") == "");
  CHECK(stop.push("D of") == "");
  CHECK(stop.found());
  CHECK(stop.push("more") == "");  // nothing comes after
  CHECK(stop.finish() == "");
}

TEST_CASE("stop_strings: at the end of the stream the rest comes out") {
  StopStrings stop({"END"});
  CHECK(stop.push("the EN") == "the ");
  CHECK(stop.finish() == "EN");
  CHECK_FALSE(stop.found());
}

TEST_CASE("stop_strings: without any, everything passes") {
  StopStrings stop({});
  CHECK(stop.push("从前") == "从前");
  CHECK(stop.push("") == "");
  CHECK(stop.finish() == "");
}
