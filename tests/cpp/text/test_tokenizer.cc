#include "text/tokenizer.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "io/expect_error.h"
#include "sentencepiece_bytes.h"
#include "text/bpe_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"
#include "tokenizer_bytes.h"

using namespace tinyzh;
using tinyzh::testing::expect_error;
using Ids = std::vector<int32_t>;

namespace {

std::string read(const std::string& name) {
  std::ifstream in(TINYZH_SOURCE_DIR "/tests/data/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a tokenizer of either kind is told by its content") {
  for (const std::string name : {"zh.bin", "zh.model"}) {
    CAPTURE(name);
    const std::string file = read(name);
    const auto tokenizer = open_tokenizer(span_of(file), 0, name);
    CHECK(tokenizer->vocabulary().size() == 640);
    CHECK(tokenizer->adds_dummy_prefix());
    expect_error(Code::tokenizer, {name, "640 pieces", "641"}, [&] { open_tokenizer(span_of(file), 641, name); });
  }
  const std::string model = read("nfkc.model");
  CHECK(open_tokenizer(span_of(model), 640, "nfkc.model")->encode("从前， 好", false) ==
        SentencePieceTokenizer(span_of(model), "nfkc.model").encode("从前， 好"));
}

TEST_CASE("a text that continues has no space in front") {
  const std::string bin = read("zh.bin"), model = read("zh.model");
  for (const std::string& file : {bin, model}) {
    const auto tokenizer = open_tokenizer(span_of(file), 0, "zh");
    const Ids begins = tokenizer->encode("从前", false), continues = tokenizer->encode("从前", true);
    CHECK(begins != continues);
    CHECK(tokenizer->encode(" 从前", true) == begins);
  }
}

TEST_CASE("a tokenizer.bin whose first byte is that of a .model is one") {
  TokenizerBytes file;
  file.bytes[0] = '\n';
  file.add("a", -1);
  CHECK(open_tokenizer(file.span(), 4, "test.bin")->encode("a", true) == Ids{3});
}

TEST_CASE("what is neither kind is refused as what it looks like") {
  expect_error(Code::tokenizer, {"test is not a SentencePiece model"}, [] { open_tokenizer(span_of("\nabc"), 0, "test"); });
  expect_error(Code::tokenizer, {"test is not a tokenizer.bin"}, [] { open_tokenizer(span_of("abc"), 0, "test"); });
  expect_error(Code::tokenizer, {"test is not a tokenizer.bin"}, [] { open_tokenizer({}, 0, "test"); });
}
