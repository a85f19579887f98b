#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>

#include "base/error.h"
#include "io/checkpoint.h"
#include "io/expect_error.h"
#include "io/make_checkpoint.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

// A copy of exactly this size, so that a sanitizer sees the first byte read beyond it.
struct Exact {
  std::unique_ptr<std::byte[]> data;
  size_t size;
  explicit Exact(std::span<const std::byte> bytes) : data(new std::byte[bytes.size()]), size(bytes.size()) {
    std::ranges::copy(bytes, data.get());
  }
  operator std::span<const std::byte>() const { return {data.get(), size}; }
};

void refused(std::span<const std::byte> bytes, std::initializer_list<std::string> words) {
  const Exact exact(bytes);
  expect_error(Code::checkpoint, words, [&] { parse_checkpoint(exact, "model.bin"); });
}

std::vector<float> scales_of(const TensorView& tensor, size_t layer) {
  std::vector<float> scales(tensor.shape.size() / tensor.group_size);
  std::memcpy(scales.data(), tensor.scales(layer), scales.size() * sizeof(float));
  return scales;
}

// Every value of every tensor, and every view inside the bytes.
void check_same(const Checkpoint& checkpoint, const MadeCheckpoint& made) {
  for (const TensorId id : all_tensors()) {
    const std::string name(tensor_name(id));
    CAPTURE(name);
    const TensorView& tensor = checkpoint[id];
    if (tensor.shape.layers == 0) {
      CHECK(!made.tensors.contains(name));
      continue;
    }
    const MadeTensor& expected = made.tensors.at(name);
    const size_t size = tensor.shape.size();
    REQUIRE(tensor.shape.layers == std::max(expected.f32.size(), expected.q8.size()));
    REQUIRE(tensor.quantised == expected.f32.empty());
    for (size_t layer = 0; layer < tensor.shape.layers; ++layer) {
      CAPTURE(layer);
      if (tensor.quantised) {
        REQUIRE(expected.q8[layer].size() == size);
        CHECK(std::equal(expected.q8[layer].begin(), expected.q8[layer].end(), tensor.q8(layer)));
        CHECK(scales_of(tensor, layer) == expected.scales[layer]);
      } else {
        REQUIRE(expected.f32[layer].size() == size);
        CHECK(std::equal(expected.f32[layer].begin(), expected.f32[layer].end(), tensor.f32(layer)));
      }
    }
  }
}

const Config kSmall{8, 12, 2, 2, 2, 11, 6, true};
const Config kUntied{8, 12, 2, 2, 2, 11, 6, false};

}  // namespace

TEST_CASE("checkpoint: every format gives back its config and tensors") {
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    const Checkpoint checkpoint = parse_checkpoint(made.bytes, "model.bin");
    CHECK(checkpoint.format == c.format);
    CHECK(checkpoint.group_size == c.group_size);
    CHECK(checkpoint.config.dim == c.config.dim);
    CHECK(checkpoint.config.hidden_dim == c.config.hidden_dim);
    CHECK(checkpoint.config.n_layers == c.config.n_layers);
    CHECK(checkpoint.config.n_heads == c.config.n_heads);
    CHECK(checkpoint.config.n_kv_heads == c.config.n_kv_heads);
    CHECK(checkpoint.config.vocab_size == c.config.vocab_size);
    CHECK(checkpoint.config.seq_len == c.config.seq_len);
    CHECK(checkpoint.config.tied == c.config.tied);
    CHECK(checkpoint.config.norm_eps == 1e-5f);
    CHECK(checkpoint.config.rope_theta == 10000.0);
    check_same(checkpoint, made);
  }
}

TEST_CASE("checkpoint: a group that straddles two rows keeps one scale") {
  const Config config{32, 43, 1, 4, 4, 9, 4, true};
  const MadeCheckpoint made = make_checkpoint(config, Format::v2, 32);
  const TensorView w2 = parse_checkpoint(made.bytes, "model.bin")[TensorId::w2];
  CHECK(w2.shape.cols == 43);
  CHECK(w2.group_size == 32);
  CHECK(scales_of(w2, 0).size() == 43);  // 32 * 43 / 32: no row is cut short, none is padded
}

TEST_CASE("checkpoint: shapes and the number of parameters of the 93M story model") {
  const Config config{768, 2268, 12, 12, 12, 3000, 768, true};
  Checkpoint checkpoint;
  for (const TensorId id : all_tensors()) {
    checkpoint.tensors[static_cast<size_t>(id)].shape = tensor_shape(config, id);
  }
  CHECK(checkpoint.parameters() == 93'340'416);
  const TensorShape w2 = checkpoint[TensorId::w2].shape;
  CHECK(w2.layers == 12);
  CHECK(w2.rows == 768);
  CHECK(w2.cols == 2268);
  CHECK(checkpoint[TensorId::wcls].shape.layers == 0);
}

TEST_CASE("checkpoint: names") {
  CHECK(format_name(Format::v0) == "llama2.c v0");
  CHECK(format_name(Format::v2) == "llama2.c v2");
  CHECK(tensor_name(TensorId::tok_emb) == "tok_emb");
  CHECK(tensor_name(TensorId::rms_final) == "rms_final");
  CHECK(tensor_name(TensorId::wcls) == "wcls");
}

TEST_CASE("checkpoint: cut at every tensor boundary and beside it") {
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    const std::span<const std::byte> bytes(made.bytes);
    const std::string expected = std::to_string(bytes.size());
    for (const Piece& piece : made.pieces) {
      CAPTURE(piece.tensor);
      CAPTURE(piece.layer);
      const std::string name = piece.tensor == "rope" ? "the RoPE tables" : piece.tensor;
      const bool layered = c.config.n_layers > 1 && (name[0] == 'w' || name[0] == 'r') && name != "wcls" &&
                           name != "rms_final";
      const std::string where = layered ? name + ", layer " + std::to_string(piece.layer) : name;
      refused(bytes.first(piece.begin), {"model.bin", std::to_string(piece.begin), expected, "ends before " + where});
      for (const size_t end : {piece.begin + 1, piece.end - 1}) {
        refused(bytes.first(end), {"model.bin", std::to_string(end), expected, "ends in " + where});
      }
    }
  }
}

TEST_CASE("checkpoint: cut inside the header") {
  for (const Format format : {Format::v0, Format::v1, Format::v2}) {
    const MadeCheckpoint made = make_checkpoint(kSmall, format, format == Format::v2 ? 8 : 0);
    const size_t header = format == Format::v0 ? 28 : 256;
    for (size_t size = 1; size < header; ++size) {
      refused(std::span(made.bytes).first(size), {"model.bin", std::to_string(size), "bytes"});
    }
  }
  refused({}, {"model.bin", "empty", "0 bytes"});
}

TEST_CASE("checkpoint: bytes behind the end") {
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    const size_t size = made.bytes.size();
    for (const size_t extra : {size_t{1}, size_t{4}, size_t{1000}}) {
      made.bytes.resize(size + extra);
      refused(made.bytes,
              {std::to_string(size), std::to_string(size + extra), std::to_string(extra) + " bytes too many"});
    }
  }
}

TEST_CASE("checkpoint: every number of the header out of its range") {
  struct Bad {
    size_t field;  // of the seven
    int32_t value;
    std::vector<std::string> words;
  };
  constexpr int32_t kLowest = std::numeric_limits<int32_t>::min(), kHighest = std::numeric_limits<int32_t>::max();
  const std::vector<Bad> bad = {
      {0, 0, {"dim is 0", "131072"}},
      {0, -8, {"dim is -8", "131072"}},
      {0, 131073, {"dim is 131073", "131072"}},
      {0, kLowest, {"dim is -2147483648"}},
      {0, 9, {"n_heads is 2", "divide dim, 9"}},
      {0, 6, {"head size", "6 / 2", "is 3", "even"}},
      {1, 0, {"hidden_dim is 0", "131072"}},
      {1, -1, {"hidden_dim is -1"}},
      {1, 131073, {"hidden_dim is 131073", "131072"}},
      {2, 0, {"n_layers is 0", "1024"}},
      {2, -3, {"n_layers is -3"}},
      {2, 1025, {"n_layers is 1025", "1024"}},
      {3, 0, {"n_heads is 0", "from 1 to 8"}},
      {3, -2, {"n_heads is -2"}},
      {3, 3, {"n_heads is 3", "divide dim, 8"}},
      {3, 9, {"n_heads is 9", "from 1 to 8"}},
      {3, 8, {"head size", "8 / 8", "is 1", "even"}},
      {4, 0, {"n_kv_heads is 0", "from 1 to 2"}},
      {4, -2, {"n_kv_heads is -2"}},
      {4, 3, {"n_kv_heads is 3", "from 1 to 2"}},
      {4, kHighest, {"n_kv_heads is 2147483647"}},
      {5, 0, {"vocab_size is 0", "1048576"}},
      {5, 1048577, {"vocab_size is 1048577", "1048576"}},
      {5, -1048577, {"vocab_size is -1048577", "1048576"}},
      {5, kLowest, {"vocab_size is -2147483648", "1048576"}},
      {6, 0, {"seq_len is 0", "1048576"}},
      {6, -6, {"seq_len is -6"}},
      {6, 1048577, {"seq_len is 1048577", "1048576"}},
  };
  for (const Format format : {Format::v0, Format::v1, Format::v2}) {
    const size_t dims = format == Format::v0 ? 0 : 8;
    for (const Bad& b : bad) {
      CAPTURE(b.field);
      CAPTURE(b.value);
      MadeCheckpoint made = make_checkpoint(kSmall, format, format == Format::v2 ? 8 : 0);
      made.set(dims + 4 * b.field, b.value);
      for (const std::string& word : b.words) refused(made.bytes, {"model.bin: ", word});
    }
  }
}

TEST_CASE("checkpoint: heads that do not divide") {
  MadeCheckpoint made = make_checkpoint({16, 12, 1, 4, 4, 11, 6, true}, Format::v0);
  made.set(4 * 4, 3);
  refused(made.bytes, {"n_kv_heads is 3", "divide n_heads, 4"});
  made.set(4 * 3, 3);
  refused(made.bytes, {"n_heads is 3", "divide dim, 16"});
}

TEST_CASE("checkpoint: a negative vocab_size means an untied classifier in v0 and nothing in v1") {
  CHECK(!parse_checkpoint(make_checkpoint(kUntied, Format::v0).bytes, "model.bin").config.tied);
  for (const Format format : {Format::v1, Format::v2}) {
    MadeCheckpoint made = make_checkpoint(kUntied, format, format == Format::v2 ? 8 : 0);
    made.set(8 + 4 * 5, -11);
    refused(made.bytes, {"vocab_size is -11"});
  }
}

TEST_CASE("checkpoint: an unknown version") {
  for (const int32_t version : {0, 3, -1, 0x01000000}) {
    MadeCheckpoint made = make_checkpoint(kSmall, Format::v1);
    made.set(4, version);
    refused(made.bytes, {"version " + std::to_string(version), "0, 1 and 2"});
  }
}

TEST_CASE("checkpoint: the flag and the padding of v1 and v2") {
  for (const Format format : {Format::v1, Format::v2}) {
    const size_t group_size = format == Format::v2 ? 8 : 0;
    for (const uint8_t flag : {uint8_t{2}, uint8_t{255}}) {
      MadeCheckpoint made = make_checkpoint(kSmall, format, group_size);
      made.set(36, flag);
      refused(made.bytes, {"tied", std::to_string(flag), "0 or 1"});
    }
    for (size_t i = format == Format::v2 ? 41 : 37; i < 256; ++i) {
      MadeCheckpoint made = make_checkpoint(kSmall, format, group_size);
      made.set(i, uint8_t{7});
      refused(made.bytes, {"byte " + std::to_string(i), "is 7"});
    }
  }
}

TEST_CASE("checkpoint: the group_size of v2") {
  using Limits = std::numeric_limits<int32_t>;
  for (const int32_t group_size : {0, -8, 3, 9, 16, Limits::min(), Limits::max()}) {
    MadeCheckpoint made = make_checkpoint(kSmall, Format::v2, 8);
    made.set(37, group_size);
    refused(made.bytes, {"group_size is " + std::to_string(group_size), "8"});
  }
}

TEST_CASE("checkpoint: scales that are not finite") {
  for (const Case& c : cases()) {
    if (c.format != Format::v2) continue;
    CAPTURE(c.name);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    for (const Piece& piece : made.pieces) {
      const MadeTensor& tensor = made.tensors.at(piece.tensor);
      if (tensor.scales.empty()) continue;
      const size_t count = tensor.scales[piece.layer].size();
      for (const size_t i : {size_t{0}, count / 2, count - 1}) {
        for (const float value : {INFINITY, -INFINITY, std::nanf("")}) {
          MadeCheckpoint bad = made;
          bad.set(piece.end - (count - i) * sizeof(float), value);
          refused(bad.bytes, {"scale " + std::to_string(i) + " of " + piece.tensor + ", layer " +
                                  std::to_string(piece.layer), std::isnan(value) ? "nan" : "inf", "finite"});
        }
      }
      // Zero, negative and the largest finite number are numbers.
      for (const float value : {0.0f, -1.0f, std::numeric_limits<float>::max()}) {
        MadeCheckpoint odd = made;
        odd.set(piece.end - sizeof(float), value);
        parse_checkpoint(odd.bytes, "model.bin");
      }
    }
  }
}

TEST_CASE("checkpoint: the largest numbers allowed give a size, not an overflow") {
  for (const Format format : {Format::v0, Format::v1, Format::v2}) {
    const Config config{kMaxDim, kMaxDim, kMaxLayers, 1, 1, kMaxVocab, kMaxSeqLen, false};
    MadeCheckpoint made = make_checkpoint(kUntied, format, format == Format::v2 ? 8 : 0);
    const size_t dims = format == Format::v0 ? 0 : 8;
    made.set(dims, config.dim);
    made.set(dims + 4, config.hidden_dim);
    made.set(dims + 8, config.n_layers);
    made.set(dims + 12, config.n_heads);
    made.set(dims + 16, config.n_kv_heads);
    made.set(dims + 20, format == Format::v0 ? -config.vocab_size : config.vocab_size);
    made.set(dims + 24, config.seq_len);
    // 2^17 wide: seven matrices of 2^34 in each of 2^10 layers, two of 2^37, and norms.
    const uint64_t vectors = 2048ull * 131072 + 131072, matrices = (7ull << 44) + (2ull << 37);
    uint64_t expected = 256 + 4 * (vectors + matrices);
    if (format == Format::v0) expected = 28 + 4 * (vectors + matrices + (1ull << 37));
    if (format == Format::v2) expected = 256 + 4 * vectors + matrices + matrices / 8 * 4;
    refused(made.bytes, {"too short", std::to_string(expected), std::to_string(made.bytes.size())});
  }
}

TEST_CASE("checkpoint: numbers whose product leaves 64 bits are refused one by one") {
  MadeCheckpoint made = make_checkpoint(kSmall, Format::v1);
  for (size_t field = 0; field < 7; ++field) made.set(8 + 4 * field, std::numeric_limits<int32_t>::max());
  refused(made.bytes, {"dim is 2147483647", "131072"});
}

TEST_CASE("checkpoint: another kind of file is called by its name") {
  refused(as_bytes("GGUF\3\0\0\0 and so on, for more than a header"), {"model.bin", "GGUF", "tinyzh convert"});
  refused(as_bytes("<!DOCTYPE html><html>"), {"model.bin", "21 bytes", "HTML"});
}

TEST_CASE("checkpoint: random changes give a checkpoint or an error, never anything else") {
  std::mt19937 random(7);
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    for (int round = 0; round < 300; ++round) {
      std::vector<std::byte> bytes = made.bytes;
      // Mostly the header, where the decisions are made.
      const size_t reach = round % 4 == 0 ? bytes.size() : 48;
      for (uint32_t change = 0; change <= random() % 3; ++change) {
        bytes[random() % reach] = static_cast<std::byte>(random());
      }
      if (round % 5 == 0) bytes.resize(random() % (2 * bytes.size()));
      const Exact exact(bytes);
      const std::span<const std::byte> input = exact;
      try {
        const Checkpoint checkpoint = parse_checkpoint(input, "model.bin");
        for (const TensorView& tensor : checkpoint.tensors) {
          if (tensor.shape.layers == 0) continue;
          CHECK(tensor.data >= input.data());
          CHECK(tensor.data + tensor.shape.layers * tensor.layer_stride <= input.data() + input.size());
        }
      } catch (const Error& error) {
        CHECK(error.code() == Code::checkpoint);
        CHECK(std::string_view(error.what()).starts_with("model.bin: "));
      }
    }
  }
}
