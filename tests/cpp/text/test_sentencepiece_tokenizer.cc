#include "text/sentencepiece_tokenizer.h"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

#include "io/expect_error.h"
#include "sentencepiece_bytes.h"
#include "text/bpe_merge.h"
#include "text/bpe_tokenizer.h"

using namespace tinyzh;
using tinyzh::testing::expect_error;
using Type = SentencePieceType;
using Ids = std::vector<int32_t>;

namespace {

SentencePieceTokenizer tokenizer_of(const std::string& file) { return {span_of(file), "test.model"}; }

// No dummy prefix, spaces kept.
SentencePieceTokenizer bare(SentencePieceBytes bytes) {
  bytes.normalizer.integer(3, 0).integer(4, 0);
  return tokenizer_of(bytes.file());
}

std::string read(const std::string& name) {
  std::ifstream in(TINYZH_SOURCE_DIR "/tests/data/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("sentencepiece: the best score merges first, the leftmost of equals") {
  CHECK(bare(SentencePieceBytes().add("a").add("b").add("c").add("ab", -2).add("bc", -1)).encode("abc") == Ids{3, 7});
  CHECK(bare(SentencePieceBytes().add("a").add("aa", -1)).encode("aaaaa") == Ids{4, 4, 3});
}

TEST_CASE("sentencepiece: what each id adds to a text") {
  SentencePieceBytes bytes;
  bytes.add("▁从▁", -1).add("前", -2, Type::user_defined).add("小", -3, Type::unused).add_byte_pieces();
  const SentencePieceTokenizer tokenizer = tokenizer_of(bytes.file());
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  REQUIRE(vocabulary.size() == 6 + 256);
  CHECK(vocabulary[0].kind == PieceKind::unknown);
  CHECK(vocabulary[0].bytes == " \u2047 ");
  CHECK(vocabulary[1].kind == PieceKind::control);
  CHECK(vocabulary[1].bytes.empty());
  CHECK(vocabulary[3].bytes == " 从 ");
  CHECK(vocabulary[4].kind == PieceKind::normal);
  CHECK(vocabulary[5].bytes == "小");
  CHECK(vocabulary[6 + 0xE4].kind == PieceKind::byte);
  CHECK(vocabulary[6 + 0xE4].bytes == "\xE4");
}

TEST_CASE("sentencepiece: a run of unknown characters is one unknown id, wherever that is") {
  SentencePieceBytes bytes;
  bytes.pieces.bytes.clear();
  bytes.add("山").add("?", 0, Type::unknown).add("，");
  CHECK(bare(bytes).encode("龘龘山龘，，?龘") == Ids{1, 0, 1, 2, 2, 1});
  CHECK(bare(bytes).encode("\xFF\xFF") == Ids{1});
}

TEST_CASE("sentencepiece: with byte fallback, unknown characters are their bytes") {
  const SentencePieceTokenizer tokenizer = bare(SentencePieceBytes().add_byte_pieces().add("山"));
  CHECK(tokenizer.encode("山从") == Ids{259, 3 + 0xE4, 3 + 0xBB, 3 + 0x8E});
  CHECK(tokenizer.encode(" ") == Ids{3 + 0xE2, 3 + 0x96, 3 + 0x81});
  CHECK(tokenizer.encode("\xFF") == Ids{3 + 0xEF, 3 + 0xBF, 3 + 0xBD});
  CHECK(tokenizer.encode(std::string_view("\0", 1)) == Ids{3});
}

TEST_CASE("sentencepiece: symbols are cut out first and never merge") {
  SentencePieceBytes bytes;
  bytes.add("a").add("b").add("ab", -1).add("ba", -1).add("bab", -1).add("aba", -2, Type::user_defined).add("baba", -1);
  CHECK(bare(bytes).encode("ababab") == Ids{8, 7});      // aba bab
  CHECK(bare(bytes).encode("babab") == Ids{4, 8, 4});    // b aba b: no merge over an end
}

TEST_CASE("sentencepiece: unused pieces lead to others and are taken apart again") {
  SentencePieceBytes bytes;
  bytes.add("a").add("b").add("c").add("ab", -1, Type::unused).add("abc", -2).add("cab", -3, Type::unused);
  const SentencePieceTokenizer tokenizer = bare(bytes);
  CHECK(tokenizer.encode("abc") == Ids{7});
  CHECK(tokenizer.encode("ab") == Ids{3, 4});
  CHECK(tokenizer.encode("cab") == Ids{5, 3, 4});
  CHECK(bare(SentencePieceBytes().add("a", 0, Type::unused).add("b")).encode("ab") == Ids{0, 4});
}

TEST_CASE("sentencepiece: reserved pieces never match text") {
  SentencePieceBytes bytes;
  bytes.add_byte_pieces().add("龘", 0, Type::control).add("<").add(">").add("s").add("<s", -1);
  const SentencePieceTokenizer tokenizer = bare(bytes);
  CHECK(tokenizer.encode("<s>") == Ids{263, 261});
  CHECK(tokenizer.encode("龘") == Ids{3 + 0xE9, 3 + 0xBE, 3 + 0x98});
  for (const int32_t id : tokenizer.encode("<unk><0x41>")) CHECK(id > 2);
}

TEST_CASE("sentencepiece: the dummy prefix is the file's or the caller's") {
  SentencePieceBytes bytes;
  bytes.add("▁").add("a").add("▁a", -1);
  CHECK(tokenizer_of(bytes.file()).adds_dummy_prefix());
  CHECK(tokenizer_of(bytes.file()).encode(" a  a ") == Ids{5, 5});
  CHECK(tokenizer_of(bytes.file()).encode(" a", false) == Ids{4});
  CHECK_FALSE(bare(bytes).adds_dummy_prefix());
  CHECK(bare(bytes).encode("a", true) == Ids{5});
  CHECK(tokenizer_of(bytes.file()).encode("").empty());
}

TEST_CASE("sentencepiece: files that cannot be are refused") {
  const auto refused = [](const SentencePieceBytes& bytes, std::initializer_list<std::string> words) {
    expect_error(Code::tokenizer, {"test.model"}, [&] { tokenizer_of(bytes.file()); });
    expect_error(Code::tokenizer, words, [&] { tokenizer_of(bytes.file()); });
  };
  refused(SentencePieceBytes().add("a").add("b").add("a"), {"piece 5 is 'a'", "so is one before it"});
  refused(SentencePieceBytes().add("<s>"), {"piece 3 is '<s>'"});
  SentencePieceBytes map;
  map.normalizer.string(2, "12345678");
  refused(map, {"character map of 8 bytes", "download"});
  const std::string long_symbol(1025, 'a');
  refused(SentencePieceBytes().add(long_symbol, 0, Type::user_defined), {"piece 3", "1025 bytes", "1024"});
  SentencePieceBytes unigram;
  unigram.trainer.integer(3, 1);
  refused(unigram, {"unigram"});
}

TEST_CASE("sentencepiece: the work for a long text is linear, symbols and unused pieces included") {
  std::vector<Piece> pieces(3);
  std::vector<float> scores(3, 0.0f);
  Ids unused;
  for (size_t length = 1; length <= 64; length *= 2) {
    if (length > 1) unused.push_back(static_cast<int32_t>(pieces.size()));
    pieces.push_back({std::string(length, 'a')});
    scores.push_back(-static_cast<float>(length));
  }
  const PieceIndex index{Vocabulary(pieces)};
  const SymbolSet symbols({"aab", "aaaab", "b"});
  const std::string text(500'000, 'a');
  const Segmentation result = bpe_merge(text, {index, scores, &symbols, unused});
  CHECK(result.pieces.size() == text.size());
  CHECK(result.lookups > 4 * text.size());
  CHECK(result.lookups <= 6 * text.size());
}

// zh.model and zh.bin are one vocabulary, with rules that a tokenizer.bin can follow.
TEST_CASE("sentencepiece: a .model and the .bin of the same vocabulary give the same ids") {
  const std::string model = read("zh.model"), bin = read("zh.bin");
  const SentencePieceTokenizer pieces = tokenizer_of(model);
  const BpeTokenizer entries(span_of(bin), 640, "zh.bin");
  REQUIRE(pieces.vocabulary().size() == 640);
  for (const std::string text :
       {"从前，有一只小兔子🐰。\nOnce upon a time!", "  两个空格  ", "龘\t", "", "▁从前", "<0x41><s>"}) {
    CAPTURE(text);
    CHECK(pieces.encode(text) == entries.encode(text, {.bos = false, .narrow_punctuation = false}));
  }
  // Here is the difference: what is not UTF-8.
  CHECK(pieces.encode("\xFF") != entries.encode("\xFF", {.bos = false}));
}

TEST_CASE("sentencepiece: nfkc.model narrows wide punctuation by its own map") {
  const SentencePieceTokenizer tokenizer = tokenizer_of(read("nfkc.model"));
  CHECK(tokenizer.encode("从前，好！") == tokenizer.encode("从前,好!"));
  CHECK(tokenizer.encode("从前\u3000 好 ") == tokenizer.encode("从前 好"));
}
