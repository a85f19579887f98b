#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "io/foreign.h"
#include "io/make_checkpoint.h"

using namespace tinyzh;
using namespace tinyzh::testing;
using namespace std::string_literals;

namespace {

std::string describe(const std::string& bytes) { return describe_foreign(as_bytes(bytes)); }

bool mentions(const std::string& text, const std::string& word) { return text.find(word) != std::string::npos; }

template <class T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

std::string piece(const std::string& text, float score) {
  return raw(score) + raw(static_cast<uint32_t>(text.size())) + text;
}

std::string tokenizer_bin() {
  std::string bytes = raw(uint32_t{27}) + piece("<unk>", 0) + piece("\n<s>\n", 0) + piece("\n</s>\n", 0);
  for (int i = 0; i < 20; ++i) bytes += piece("从前", -static_cast<float>(i));
  return bytes;
}

}  // namespace

TEST_CASE("foreign: each kind is named, with what to do") {
  struct Kind {
    std::string bytes, name, remedy;
  };
  const std::string rest(600, '\x05');
  const std::vector<Kind> kinds = {
      {"<!DOCTYPE html>\n<html>", "HTML", "download"},
      {"\n\n  <HTML lang=\"zh\">", "HTML", "download"},
      {"\xef\xbb\xbf<html>", "HTML", "download"},
      {"<?xml version=\"1.0\"?><Error>", "XML", "download"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 373361692\n", "Git LFS", "git lfs pull"},
      {"GGUF\3\0\0\0"s + rest, "GGUF", "tinyzh convert"},
      {"tjgg\3\0\0\0"s + rest, "GGML", "original weights"},
      {"lmgg\3\0\0\0"s + rest, "GGML", "original weights"},
      {raw(uint64_t{100}) + "{\"__metadata__\":" + rest, "safetensors", "tinyzh convert"},
      {"PK\3\4"s + rest, "zip", "export.py"},
      {"\x80\x02}q\x01"s + rest, "pickle", "export.py"},
      {"\x80\x04\x95\x10\0\0\0"s + rest, "pickle", "export.py"},
      {"\x1f\x8b\x08\0"s + rest, "compressed", "decompress"},
      {"\x28\xb5\x2f\xfd"s + rest, "compressed", "decompress"},
      {"\x93NUMPY\x01\0v\0"s + rest, "NumPy", ".bin"},
      {"model.bin"s + std::string(248, '\0') + "ustar" + rest, "tar", "unpack"},
      {"a"s + std::string(256, '\0') + "ustar" + rest, "tar", "unpack"},
      {"{\n  \"dim\": 768\n}", "JSON", "model's file"},
      {" [1, 2]", "JSON", "model's file"},
      {tokenizer_bin(), "tokenizer", "model's .bin"},
      {tokenizer_bin().substr(0, 4 + 13 + 13 + 14), "tokenizer", "model's .bin"},
      {"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02\x0a\x0c"s, "tokenizer", "model's .bin"},
      {"从前，有一只小兔子。\n", "plain text", "model's file"},
      {"once upon a time", "plain text", "model's file"},
      {"[project]\nname = 1\n", "plain text", "model's file"},
      {"{", "plain text", "model's file"},
      {std::string(100, '\0'), "zero bytes", "download"},
      {"\x1c\0\0\0TFL3"s + rest, "TensorFlow Lite", "export.py"},
      {"\x08\x08\x12\x07pytorch\x1a"s + rest, "ONNX", "Hugging Face folder"},
      {"\6\0\0\0\x17\0TransformerDecoderSpec\0"s + rest, "CTranslate2", "Hugging Face folder"},
      {"ak42\0\0\0\1"s + rest, "big-endian", "export"},
      {"tzsess1\n"s + rest, "session", "Session.load"},
      {"\x89PNG\r\n\x1a\n"s + rest, "picture", "model's file"},
      {"\xff\xd8\xff\xe0"s + rest, "picture", "model's file"},
      {"RIFF\1\2\3\4WEBP"s + rest, "picture", "model's file"},
      {"ID3\3"s + rest, "sound", "model's file"},
      {"\0\0\0\x20" "ftypisom"s + rest, "film", "model's file"},
      {"%PDF-1.7\n"s + rest, "PDF", "model's file"},
      {"\x7f" "ELF\2\1\1"s + rest, "program", "model's file"},
      {"MZ\x90\0"s + rest, "program", "model's file"},
      {"Rar!\x1a\7\1\0"s + rest, "compressed", "decompress"},
      {"SQLite format 3\0"s + rest, "database", "model's file"},
      {"PAR1"s + rest, "table", "model's file"},
      {"\x82\xa5model\x81"s + rest, "Flax", "save_pretrained"},
  };
  for (const Kind& kind : kinds) {
    CAPTURE(kind.name);
    const std::string text = describe(kind.bytes);
    CAPTURE(text);
    CHECK(mentions(text, kind.name));
    CHECK(mentions(text, kind.remedy));
  }
}

TEST_CASE("foreign: some remedies hold whatever was wanted") {
  CHECK(what_is(as_bytes("version https://git-lfs.github.com/spec/v1\n"s)).always);
  CHECK(what_is(as_bytes("<html>"s)).always);
  CHECK_FALSE(what_is(as_bytes("GGUF\3\0\0\0"s)).always);
  CHECK_FALSE(what_is(as_bytes("{\"a\": 1}"s)).always);
}

TEST_CASE("foreign: what is nothing known is not guessed at") {
  CHECK(describe("") == "");
  CHECK(describe(" \n") == "");
  CHECK(describe(std::string(600, '\x05')) == "");
  CHECK(describe("abc\x01") == "");
  CHECK(describe("text and then \xff\xfe") == "");
  CHECK(describe("\x80\x02"s) == "");
  CHECK(describe("\x82\xa5mod\x01l"s + std::string(100, '\1')) == "");  // no name in a mapping
  CHECK(describe("\x82\xbf" "model"s) == "");
  CHECK(describe("\x80\x02\0\0"s + std::string(100, '\1')) == "");                 // the dim 640 of a v0 header
  CHECK(describe(raw(uint32_t{27}) + piece("<unk>", 0)) == "");                   // too little to tell
  CHECK(describe(raw(uint32_t{27}) + piece("<unk>", NAN) + tokenizer_bin()) == "");
  CHECK(describe(raw(uint64_t{1} << 40) + "{\"") == "");
}

TEST_CASE("foreign: no checkpoint is taken for something else") {
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    CHECK(describe_foreign(make_checkpoint(c.config, c.format, c.group_size).bytes) == "");
  }
}

TEST_CASE("foreign: cut anywhere, nothing is read beyond the end") {
  const std::vector<std::string> wholes = {tokenizer_bin(),
                                           "\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0"s,
                                           "\x80\x04\x95"s,
                                           "\x82\xa5model\x81"s,
                                           "version https://git-lfs"s,
                                           raw(uint64_t{9}) + "{\"a\":1}",
                                           "a"s + std::string(256, '\0') + "ustar"};
  for (const std::string& whole : wholes) {
    for (size_t size = 0; size <= whole.size(); ++size) {
      const std::vector<char> exact(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      describe_foreign(std::as_bytes(std::span(exact)));
    }
  }
}
