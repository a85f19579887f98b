#include "capi/handles.h"
#include "io/mapped_file.h"

using namespace tinyzh;

int32_t tinyzh_tokenizer_open(const char* path, int32_t vocab_size, tinyzh_tokenizer** tokenizer, tinyzh_error* error) {
  return guarded(error, [&] {
    require(path, "path");
    require(tokenizer, "tokenizer");
    *tokenizer = nullptr;
    const MappedFile file(path);
    *tokenizer = new tinyzh_tokenizer{open_tokenizer(file.bytes(), vocab_size, path)};
  });
}

int32_t tinyzh_tokenizer_open_memory(const void* data, size_t size, int32_t vocab_size, tinyzh_tokenizer** tokenizer,
                                     tinyzh_error* error) {
  return guarded(error, [&] {
    require(data || size == 0, "data");
    require(tokenizer, "tokenizer");
    *tokenizer = nullptr;
    *tokenizer = new tinyzh_tokenizer{open_tokenizer({static_cast<const std::byte*>(data), size}, vocab_size, "the bytes given")};
  });
}

void tinyzh_tokenizer_close(tinyzh_tokenizer* tokenizer) { delete tokenizer; }

int32_t tinyzh_tokenizer_size(const tinyzh_tokenizer* tokenizer) {
  return tokenizer ? tokenizer->tokenizer->vocabulary().size() : 0;
}

int32_t tinyzh_tokenizer_encode(const tinyzh_tokenizer* tokenizer, const char* text, size_t text_size, uint32_t flags,
                                int32_t* ids, size_t capacity, size_t* count, tinyzh_error* error) {
  return guarded(error, [&] {
    require(tokenizer, "tokenizer");
    require(text || text_size == 0, "text");
    require(ids || capacity == 0, "ids");
    require(count, "count");
    std::vector<int32_t> found;
    if (flags & TINYZH_ENCODE_BOS) found.push_back(Vocabulary::kBos);
    const std::vector<int32_t> encoded =
        tokenizer->tokenizer->encode({text, text_size}, (flags & TINYZH_ENCODE_CONTINUE) != 0);
    found.insert(found.end(), encoded.begin(), encoded.end());
    *count = found.size();
    std::copy_n(found.begin(), std::min(capacity, found.size()), ids);
  });
}

int32_t tinyzh_tokenizer_piece(const tinyzh_tokenizer* tokenizer, int32_t id, const char** bytes, size_t* size,
                               tinyzh_error* error) {
  return guarded(error, [&] {
    require(tokenizer, "tokenizer");
    require(bytes && size, "bytes or size");
    const Vocabulary& vocabulary = tokenizer->tokenizer->vocabulary();
    if (id < 0 || id >= vocabulary.size())
      fail(Code::invalid_argument, "token is ", id, ": expected an id from 0 to ", vocabulary.size() - 1);
    const std::string& piece = vocabulary[id].bytes;
    *bytes = piece.data();
    *size = piece.size();
  });
}
