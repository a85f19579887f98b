// libFuzzer: any bytes are either refused as a tokenizer.bin or make a tokenizer that encodes any text.
//
//   cmake -S . -B build-fuzz -DTINYZH_BUILD_FUZZERS=ON -DCMAKE_CXX_COMPILER=clang++
//   build-fuzz/fuzz_tokenizer -max_total_time=60 build-fuzz/new tests/fuzz/corpus/tokenizer
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/utf8.h"

using namespace tinyzh;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void exercise(const BpeTokenizer& tokenizer, std::string_view text) {
  for (unsigned choice = 0; choice < 8; ++choice) {
    const EncodeOptions options{.dummy_prefix = (choice & 1) != 0,
                                .squeeze_spaces = (choice & 2) != 0,
                                .narrow_punctuation = (choice & 4) != 0};
    const std::vector<int32_t> ids = tokenizer.encode(text, options);
    const std::string decoded = tokenizer.decode(ids);  // throws if an id is out of range
    require(ids.size() <= 3 * text.size() + 3 + 1);     // "…" is 3 bytes and at most 3 tokens; " " may be 3

    Utf8Assembler assembler;
    std::string streamed, whole;
    for (const int32_t id : ids) assembler.push(tokenizer.decode({&id, 1}), streamed);
    assembler.finish(streamed);
    assembler.push(decoded, whole);
    assembler.finish(whole);
    require(streamed == whole);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // All of the input is the file: its own bytes are the text that its pieces are most likely to match.
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const int32_t count = count_tokenizer_entries(bytes, "input");
    const BpeTokenizer tokenizer(bytes, count, "input");
    exercise(tokenizer, {reinterpret_cast<const char*>(data), size < 512 ? size : 512});
  } catch (const Error& error) {
    require(error.code() == Code::tokenizer);
  }
  return 0;
}
