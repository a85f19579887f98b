#include "text/bpe_tokenizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <random>

#include "base/error.h"
#include "text/bpe_merge.h"
#include "tokenizer_bytes.h"

using namespace tinyzh;

namespace {

using Ids = std::vector<int32_t>;

BpeTokenizer tokenizer_of(const TokenizerBytes& file) { return {file.span(), file.count, "test.bin"}; }

// The text alone: no BOS, no dummy prefix.
constexpr EncodeOptions kBare{.bos = false, .eos = false, .dummy_prefix = false};

// The message of the Error(Code::tokenizer) that reading `bytes` throws; empty if it throws none.
std::string refusal(std::string_view bytes, int32_t vocab_size) {
  try {
    BpeTokenizer(std::as_bytes(std::span(bytes)), vocab_size, "test.bin");
  } catch (const Error& error) {
    CHECK(error.code() == Code::tokenizer);
    return error.what();
  }
  return {};
}

bool mentions(const std::string& message, std::string_view part) {
  INFO(message);
  return message.find(part) != std::string::npos;
}

}  // namespace

// ---- Dialects ----

TEST_CASE("the current dialect: byte tokens, spaces, control tokens with line breaks around") {
  TokenizerBytes file;
  file.add_byte_tokens().add(" ", -1).add("从", -2).add(" 从", -3);
  const BpeTokenizer tokenizer = tokenizer_of(file);
  const Vocabulary& vocabulary = tokenizer.vocabulary();
  CHECK(vocabulary.size() == 262);
  CHECK(vocabulary[0].kind == PieceKind::unknown);
  CHECK(vocabulary[0].bytes == "<unk>");
  CHECK(vocabulary[1].kind == PieceKind::control);
  CHECK(vocabulary[1].bytes.empty());
  CHECK(vocabulary[2].kind == PieceKind::control);
  CHECK(vocabulary[3 + 0xE4].kind == PieceKind::byte);
  CHECK(vocabulary[3 + 0xE4].bytes == "\xE4");
  CHECK(vocabulary[3].bytes == std::string(1, '\0'));
  CHECK(vocabulary[261].kind == PieceKind::normal);
  CHECK(tokenizer.has_byte_fallback());
  CHECK(tokenizer.has_space());

  CHECK(tokenizer.encode("从前", {.eos = true}) == Ids{1, 261, 3 + 0xE5, 3 + 0x89, 3 + 0x8D, 2});
  CHECK(tokenizer.encode("从", kBare) == Ids{260});
  CHECK(tokenizer.encode("", {}) == Ids{1});
  CHECK(tokenizer.decode(Ids{1, 261, 3 + 0xE5, 3 + 0x89, 3 + 0x8D, 2}) == " 从前");
}

TEST_CASE("the old dialect: byte tokens as the characters of their numbers") {
  TokenizerBytes file;
  file.add_bytes_as_characters().add("a", -1).add("ä", -2);
  const BpeTokenizer tokenizer = tokenizer_of(file);
  CHECK(tokenizer.has_byte_fallback());
  CHECK(tokenizer.decode(Ids{3 + 0xE4, 3 + 0xBB, 3 + 0x8E}) == "从");
  CHECK(tokenizer.decode(Ids{260}) == "ä");
  CHECK(tokenizer.encode("aä", kBare) == Ids{259, 260});
  CHECK(tokenizer.encode("ö", kBare) == Ids{3 + 0xC3, 3 + 0xB6});  // two bytes, not the token of byte F6
  CHECK_FALSE(tokenizer.has_space());                              // byte 20 is not the space piece
}

TEST_CASE("characters where the old dialect has its bytes are characters, unless all 256 agree") {
  TokenizerBytes file;
  file.add_bytes_as_characters();
  file.bytes.replace(file.bytes.rfind("\xC3\xBF"), 2, "从前", 0, 2);  // byte FF's is another text
  const BpeTokenizer tokenizer = tokenizer_of(file);
  CHECK_FALSE(tokenizer.has_byte_fallback());
  CHECK(tokenizer.decode(Ids{3 + 0xE4}) == "ä");
  CHECK(tokenizer.encode("ä", kBare) == Ids{3 + 0xE4});
}

TEST_CASE("no byte tokens: a run of unknown characters is one unknown id") {
  TokenizerBytes file("<s>", "</s>");
  file.add("\n", -1).add("，", -2).add("山", -3).add(" ", -4);
  const BpeTokenizer tokenizer = tokenizer_of(file);
  CHECK_FALSE(tokenizer.has_byte_fallback());
  CHECK(tokenizer.encode("山，龘龘山龘\n", kBare) == Ids{5, 4, 0, 5, 0, 3});
  CHECK(tokenizer.encode("山", {}) == Ids{1, 6, 5});
  CHECK(tokenizer.encode("龘", {.dummy_prefix = false}) == Ids{1, 0});
  CHECK(tokenizer.decode(Ids{1, 5, 0}) == "山<unk>");
}

TEST_CASE("a few byte tokens are text to read, not a fallback to write") {
  TokenizerBytes file;
  file.add("<0xE4>").add("<0x0a>").add("山");
  const BpeTokenizer tokenizer = tokenizer_of(file);
  CHECK_FALSE(tokenizer.has_byte_fallback());
  CHECK(tokenizer.decode(Ids{4}) == "\n");
  CHECK(tokenizer.encode("从\n", kBare) == Ids{0});
}

TEST_CASE("only exactly two hexadecimal digits make a byte token") {
  for (const std::string text : {"<0x4>", "<0x041>", "<0x4G>", "<0x 4>", "<0x+4>", "<0X41>", "<0x41", "0x41>", "<0x41> "}) {
    CAPTURE(text);
    TokenizerBytes file;
    file.add(text);
    const BpeTokenizer tokenizer = tokenizer_of(file);
    CHECK(tokenizer.vocabulary()[3].kind == PieceKind::normal);
    CHECK(tokenizer.decode(Ids{3}) == text);
  }
}

TEST_CASE("▁ is a space, in the file and in the text") {
  TokenizerBytes marks, spaces;
  marks.add("▁", -1).add("从", -2).add("▁从", -3).add("▁▁", -4);
  spaces.add(" ", -1).add("从", -2).add(" 从", -3).add("  ", -4);
  for (const TokenizerBytes& file : {marks, spaces}) {
    const BpeTokenizer tokenizer = tokenizer_of(file);
    CHECK(tokenizer.has_space());
    CHECK(tokenizer.encode("从", {.bos = false}) == Ids{5});
    CHECK(tokenizer.encode("▁从", kBare) == Ids{5});
    CHECK(tokenizer.encode("▁ 从", kBare) == Ids{3, 5});
    CHECK(tokenizer.decode(Ids{5, 6}) == " 从  ");
  }
}

TEST_CASE("a vocabulary without a space gets no dummy prefix; its spaces are SentencePiece's bytes") {
  TokenizerBytes file;
  file.add_byte_tokens().add("从", -1);
  const BpeTokenizer tokenizer = tokenizer_of(file);
  CHECK_FALSE(tokenizer.has_space());
  CHECK(tokenizer.encode("从", {.bos = false}) == Ids{259});
  CHECK(tokenizer.encode(" ", kBare) == Ids{3 + 0xE2, 3 + 0x96, 3 + 0x81});
}

TEST_CASE("reserved tokens and byte tokens never match text") {
  TokenizerBytes file;
  file.add_byte_tokens();
  for (const std::string piece : {"<", "s", ">", "<s", "/", "</", "</s", "\n", "\n<s>", "<u", "nk", "<unk", "<0", "x41", "<0x41"})
    file.add(piece, -1);
  const BpeTokenizer tokenizer = tokenizer_of(file);
  for (const std::string text : {"<unk>", "<s>", "\n<s>\n", "</s>", "\n</s>\n", "<0x41>"}) {
    CAPTURE(text);
    for (const int32_t id : tokenizer.encode(text, kBare)) CHECK(id > 2);
    CHECK(tokenizer.decode(tokenizer.encode(text, kBare)) == text);
  }
  CHECK(tokenizer.encode("A", kBare) == Ids{3 + 0x41});
}

TEST_CASE("of two equal pieces the lower id is used") {
  TokenizerBytes file;
  file.add("a", -5).add("a", -1).add("").add("");
  CHECK(tokenizer_of(file).encode("aa", kBare) == Ids{3, 3});
}

// ---- Malformed files ----

TEST_CASE("a file cut at any byte is refused, and so is one with bytes added") {
  TokenizerBytes file;
  file.add_byte_tokens().add("从前", -1);
  REQUIRE(refusal(file.bytes, file.count).empty());
  for (size_t length = 0; length < file.bytes.size(); ++length) {
    CAPTURE(length);
    CHECK_FALSE(refusal(file.bytes.substr(0, length), file.count).empty());
  }
  for (size_t added = 1; added < 40; ++added) {
    CAPTURE(added);
    CHECK_FALSE(refusal(file.bytes + std::string(added, '\0'), file.count).empty());
  }
}

TEST_CASE("the wrong number of entries is refused with both numbers") {
  TokenizerBytes file;
  file.add("a").add("b");
  CHECK(count_tokenizer_entries(file.span(), "test.bin") == 5);
  for (const int32_t vocab_size : {0, -1, 4, 6, 3000, std::numeric_limits<int32_t>::max()}) {
    const std::string message = refusal(file.bytes, vocab_size);
    CHECK(mentions(message, "test.bin has 5 entries"));
    CHECK(mentions(message, std::to_string(vocab_size)));
  }
}

TEST_CASE("lengths that are negative or pass the end are refused") {
  for (const uint32_t length : {0x80000000u, 0xFFFFFFFFu, 0x7FFFFFFFu, 3u}) {
    CAPTURE(length);
    TokenizerBytes file;
    file.put(0).put(length).bytes += "ab";
    const std::string message = refusal(file.bytes, 4);
    CHECK(mentions(message, "entry 3 says that it is " + std::to_string(static_cast<int32_t>(length))));
    CHECK(mentions(message, "2 are left"));
  }
}

TEST_CASE("a score that is not a number is refused, infinity is a score") {
  TokenizerBytes file;
  file.add("ab", -std::numeric_limits<float>::infinity()).add("a").add("b");
  CHECK(tokenizer_of(file).encode("ab", kBare) == Ids{3});
  file.add("ba", std::nanf(""));
  CHECK(mentions(refusal(file.bytes, file.count), "the score of entry 6 is not a number"));
}

TEST_CASE("fewer than the three reserved entries are refused") {
  CHECK(mentions(refusal("", 0), "0 bytes"));
  const std::string two = TokenizerBytes().bytes.substr(0, 4 + 8 + 5 + 8 + 5);
  CHECK(mentions(refusal(two, 2), "2 entries"));
}

TEST_CASE("files given by mistake are named") {
  CHECK(mentions(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0", 512), "git lfs pull"));
  CHECK(mentions(refusal("<!DOCTYPE html><html></html>", 512), "HTML or XML page"));
  CHECK(mentions(refusal(std::string("\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02", 16), 512), "SentencePiece"));
}

TEST_CASE("an id out of range is refused with the limit") {
  const BpeTokenizer tokenizer = tokenizer_of(TokenizerBytes().add("a"));
  for (const int32_t id : {-1, 4, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()}) {
    try {
      tokenizer.decode(Ids{id});
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.code() == Code::invalid_argument);
      CHECK(mentions(error.what(), "token id " + std::to_string(id)));
      CHECK(mentions(error.what(), "from 0 to 3"));
    }
  }
}

// ---- Merging ----

TEST_CASE("the best score merges first, the leftmost of equals") {
  TokenizerBytes file;
  file.add("a").add("b").add("c").add("ab", -2).add("bc", -1);
  CHECK(tokenizer_of(file).encode("abc", kBare) == Ids{3, 7});
  TokenizerBytes equal;
  equal.add("a").add("aa", -1);
  CHECK(tokenizer_of(equal).encode("aaaaa", kBare) == Ids{4, 4, 3});
  TokenizerBytes zero;  // 0 and -0 are equal scores
  zero.add("a").add("b").add("ab", -0.0f).add("ba", 0.0f);
  CHECK(tokenizer_of(zero).encode("aba", kBare) == Ids{5, 3});
}

TEST_CASE("a character outside the vocabulary can be part of a piece") {
  TokenizerBytes file;
  file.add("从", -1).add("从龘", -2);
  CHECK(tokenizer_of(file).encode("从龘龘", kBare) == Ids{4, 0});
}

TEST_CASE("merging agrees with its definition on random vocabularies") {
  std::mt19937 random(8);
  size_t wrong = 0;
  for (int round = 0; round < 400; ++round) {
    TokenizerBytes file;
    std::map<std::string, std::pair<int32_t, float>> known;
    const std::vector<std::string> letters = {"a", "b", "从", "前", "\xFF"};
    const auto word = [&](size_t most) {
      std::string text;
      for (size_t n = 1 + random() % most; n > 0; --n) text += letters[random() % letters.size()];
      return text;
    };
    for (int n = 0; n < 40; ++n) {
      const std::string piece = word(4);
      const float score = -static_cast<float>(random() % 6);  // few values: many ties
      known.try_emplace(piece, file.count, score);
      file.add(piece, score);
    }
    const BpeTokenizer tokenizer = tokenizer_of(file);

    // The definition: look at all pairs, take the best, begin again.
    const std::string text = word(30);
    std::vector<std::string> parts;
    for (size_t at = 0; at < text.size(); at += parts.back().size())
      parts.push_back(text.substr(at, static_cast<unsigned char>(text[at]) / 16 == 0xE ? 3 : 1));
    while (true) {
      size_t best = parts.size();
      float best_score = -std::numeric_limits<float>::infinity();
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = known.find(parts[i] + parts[i + 1]);
        if (found != known.end() && found->second.second > best_score) best = i, best_score = found->second.second;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    Ids expected;
    bool after_unknown = false;
    for (const std::string& part : parts) {
      const auto found = known.find(part);
      if (found != known.end()) expected.push_back(found->second.first);
      else if (!after_unknown) expected.push_back(0);
      after_unknown = found == known.end();
    }
    wrong += tokenizer.encode(text, kBare) != expected;
  }
  CHECK(wrong == 0);
}

TEST_CASE("the work for a megabyte of one character is linear in its length") {
  TokenizerBytes file;
  std::vector<Piece> pieces(3);
  std::vector<float> scores(3, 0.0f);
  for (size_t length = 1; length <= 64; length *= 2) {
    pieces.push_back({std::string(length, 'a')});
    scores.push_back(-static_cast<float>(length));
  }
  const PieceIndex index{Vocabulary(pieces)};
  const std::string text(1'000'001, 'a');
  const Segmentation result = bpe_merge(text, {index, scores});
  CHECK(result.pieces.size() == 1'000'000 / 64 + 1);
  CHECK(result.lookups <= 4 * text.size());
}

// ---- Space rules, punctuation, bytes ----

TEST_CASE("squeeze_spaces trims and collapses, the dummy prefix stays one space") {
  TokenizerBytes file;
  file.add(" ").add("a").add("b").add(",");
  const BpeTokenizer tokenizer = tokenizer_of(file);
  const EncodeOptions squeeze{.bos = false, .squeeze_spaces = true};
  CHECK(tokenizer.encode("  a \u3000▁ b  ", squeeze) == Ids{3, 4, 3, 5});
  CHECK(tokenizer.encode("   ", squeeze).empty());
  CHECK(tokenizer.encode("", squeeze).empty());
  CHECK(tokenizer.encode(" a ", {.bos = false, .dummy_prefix = false, .squeeze_spaces = true}) == Ids{4});
  CHECK(tokenizer.encode(" a ", {.bos = false}) == Ids{3, 3, 4, 3});
}

TEST_CASE("wide punctuation that the vocabulary lacks becomes the narrow one that it has") {
  TokenizerBytes file;
  file.add_byte_tokens().add(" ").add(",").add("！").add("!").add(".").add("a").add("~");
  const BpeTokenizer tokenizer = tokenizer_of(file);
  const auto decoded = [&](std::string_view text, bool narrow) {
    EncodeOptions options = kBare;
    options.narrow_punctuation = narrow;
    return tokenizer.decode(tokenizer.encode(text, options));
  };
  CHECK(tokenizer.encode("，", kBare) == Ids{260});
  CHECK(tokenizer.encode("！", kBare) == Ids{261});  // the vocabulary has it: it stays
  CHECK(decoded("ａ　，……", true) == "a ,......");
  CHECK(decoded("ａ　，……", false) == "ａ　，……");
  CHECK(decoded("；（ｂ）～。“”、￥", true) == "；（ｂ）～。“”、￥");  // no narrow form, or not in the vocabulary
}

TEST_CASE("every wide form has its narrow form") {
  TokenizerBytes file;
  for (char c = '!'; c <= '}'; ++c) file.add(std::string(1, c));
  const BpeTokenizer tokenizer = tokenizer_of(file);
  for (int32_t i = 0; i <= '}' - '!'; ++i) {
    const int code = 0xFF01 + i;
    const std::string wide = {static_cast<char>(0xEF), static_cast<char>(0x80 | (code >> 6 & 0x3F)),
                              static_cast<char>(0x80 | (code & 0x3F))};
    CHECK(tokenizer.encode(wide, kBare) == Ids{3 + i});
  }
}

TEST_CASE("with byte fallback, any bytes come back as they went in") {
  TokenizerBytes file;
  file.add_byte_tokens().add(" ", -1).add("从", -2).add("前", -3).add("从前", -4);
  const BpeTokenizer tokenizer = tokenizer_of(file);
  CHECK(tokenizer.encode("\xFF", kBare) == Ids{3 + 0xFF});
  CHECK(tokenizer.encode(std::string("\0", 1), kBare) == Ids{3});
  std::mt19937 random(1);
  size_t wrong = 0;
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (size_t n = random() % 30; n > 0; --n)
      text += random() % 3 ? std::string(1, static_cast<char>(random())) : std::string("从前 ");
    if (text.find("▁") == std::string::npos) wrong += tokenizer.decode(tokenizer.encode(text, kBare)) != text;
  }
  CHECK(wrong == 0);
}

TEST_CASE("the tokenizers of tests/data") {
  for (const std::string name : {"zh", "nfkc"}) {
    std::ifstream in(std::string(TINYZH_SOURCE_DIR "/tests/data/") + name + ".bin", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    const auto span = std::as_bytes(std::span(bytes));
    REQUIRE(count_tokenizer_entries(span, name) == 640);
    const BpeTokenizer tokenizer(span, 640, name);
    CHECK(tokenizer.has_byte_fallback());
    CHECK(tokenizer.has_space());
    const std::string story = "从前，有一只小兔子🐰。\nOnce upon a time!";
    CHECK(tokenizer.decode(tokenizer.encode(story, {.narrow_punctuation = false})) == " " + story);
  }
}
