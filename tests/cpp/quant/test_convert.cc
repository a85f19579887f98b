#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/unusual_floating_point.h"
#include "io/expect_error.h"
#include "io/make_checkpoint.h"
#include "io/temporary_directory.h"
#include "quant/convert.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

using Bytes = std::vector<std::byte>;

// The bytes of the file that `from` becomes.
Bytes converted(const Bytes& from, Format format, size_t group_size = 0) {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  convert_checkpoint(parse_checkpoint(from, "made"), path, format, group_size);
  return read_file(path);
}

const Config kGrouped{16, 22, 3, 4, 2, 13, 5, false};  // untied, grouped queries

}  // namespace

TEST_CASE("convert: v0 and v1 hold the same numbers, there and back") {
  for (const Case& c : cases()) {
    if (c.format == Format::v2) continue;
    CAPTURE(c.name);
    const Bytes v0 = converted(make_checkpoint(c.config, c.format).bytes, Format::v0);
    const Bytes v1 = converted(v0, Format::v1);
    CHECK(converted(v1, Format::v1) == v1);
    CHECK(converted(v1, Format::v0) == v0);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format);
    const Checkpoint read = parse_checkpoint(v1, "v1");
    for (const TensorId id : all_tensors())
      for (size_t layer = 0; layer < read[id].shape.layers; ++layer) {
        const std::vector<float>& expected = made.tensors.at(std::string(tensor_name(id))).f32[layer];
        CHECK(std::equal(expected.begin(), expected.end(), read[id].f32(layer)));
      }
  }
}

TEST_CASE("convert: v2 keeps its bytes through v2, and its values through v0 and v1") {
  for (const Case& c : cases()) {
    if (c.format != Format::v2) continue;
    CAPTURE(c.name);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    CHECK(converted(made.bytes, Format::v2, c.group_size) == made.bytes);
    for (Format format : {Format::v0, Format::v1}) {
      const Bytes bytes = converted(made.bytes, format);
      const Checkpoint read = parse_checkpoint(bytes, "converted");
      CHECK(read.config.tied == c.config.tied);
      for (const TensorId id : all_tensors())
        for (size_t layer = 0; layer < read[id].shape.layers; ++layer) {
          const MadeTensor& tensor = made.tensors.at(std::string(tensor_name(id)));
          bool right = true;
          for (size_t k = 0; k < read[id].shape.size(); ++k) {
            const float expected = tensor.q8.empty()
                                       ? tensor.f32[layer][k]
                                       : static_cast<float>(tensor.q8[layer][k]) * tensor.scales[layer][k / c.group_size];
            right = right && read[id].f32(layer)[k] == expected;
          }
          CAPTURE(std::string(tensor_name(id)));
          CHECK(right);
        }
    }
  }
}

TEST_CASE("convert: round and round: v0 -> v1 -> v2 -> v0 -> v2 rounds once") {
  const Bytes v0 = make_checkpoint(kGrouped, Format::v0).bytes;
  const Bytes v2 = converted(converted(v0, Format::v1), Format::v2, 16);
  CHECK(converted(v0, Format::v2, 16) == v2);
  const Bytes back = converted(v2, Format::v0);
  CHECK(back != v0);
  const Checkpoint first = parse_checkpoint(v2, "v2");
  const Bytes again_bytes = converted(back, Format::v2, 16);
  const Checkpoint again = parse_checkpoint(again_bytes, "again");
  for (size_t k = 0; k < first[TensorId::w2].shape.size(); ++k)
    REQUIRE(first[TensorId::w2].q8(1)[k] == again[TensorId::w2].q8(1)[k]);
}

TEST_CASE("convert: a different group size rounds again, within half a step") {
  const Bytes v2 = make_checkpoint(kGrouped, Format::v2, 16).bytes;
  const Bytes v0 = converted(v2, Format::v0), finer = converted(v2, Format::v2, 4);
  const Checkpoint exact = parse_checkpoint(v0, "v0"), read = parse_checkpoint(finer, "v2");
  CHECK(read.group_size == 4);
  const TensorView& w1 = read[TensorId::w1];
  for (size_t k = 0; k < w1.shape.size(); ++k) {
    float scale;
    std::memcpy(&scale, w1.scales(2) + k / 4 * sizeof scale, sizeof scale);
    REQUIRE(std::fabs(static_cast<float>(w1.q8(2)[k]) * scale - exact[TensorId::w1].f32(2)[k]) <= 0.50001f * scale);
  }
}

TEST_CASE("convert: the default group size is the exporter's, and says when groups straddle rows") {
  CHECK(default_group_size({768, 2268, 12, 12, 12, 3000, 768}) == 64);
  CHECK(default_group_size({96, 256, 1, 1, 1, 3, 4}) == 32);
  CHECK(default_group_size({6, 8, 1, 1, 1, 3, 4}) == 2);
  CHECK(groups_straddle_rows({768, 2268, 12, 12, 12, 3000, 768}, 64));
  CHECK_FALSE(groups_straddle_rows({768, 2304, 12, 12, 12, 3000, 768}, 64));
  const Bytes v2 = converted(make_checkpoint(kGrouped, Format::v0).bytes, Format::v2);
  CHECK(parse_checkpoint(v2, "v2").group_size == 16);
}

TEST_CASE("convert: the same bytes under the floating-point settings of a game") {
  const Bytes v0 = make_checkpoint(kGrouped, Format::v0).bytes, expected = converted(v0, Format::v2, 16);
  for (const Unusual& setting : unusual_settings()) {
    CAPTURE(setting.name);
    Bytes found;
    {
      const UnusualFloatingPoint unusual(setting);
      found = converted(v0, Format::v2, 16);
    }
    CHECK(found == expected);
  }
}

TEST_CASE("convert: weights that are no numbers have no int8 form; nothing is left behind") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    MadeCheckpoint made = make_checkpoint(kGrouped, Format::v0);
    for (const Piece& piece : made.pieces)
      if (piece.tensor == "w3" && piece.layer == 1) made.set(piece.begin + 4 * 7, bad);
    const TemporaryDirectory directory;
    const Checkpoint from = parse_checkpoint(made.bytes, "made");
    expect_error(Code::checkpoint, {"w3", "layer 1", "weight 7", "v0 or v1"},
                 [&] { convert_checkpoint(from, directory / "out.bin", Format::v2, 16); });
    CHECK(directory.count() == 0);
    convert_checkpoint(from, directory / "out.bin", Format::v1, 0);  // fp32 holds them
    CHECK(directory.count() == 1);
  }
}

TEST_CASE("convert: a group size that does not divide dim is refused") {
  const MadeCheckpoint made = make_checkpoint(kGrouped, Format::v0);
  const TemporaryDirectory directory;
  expect_error(Code::invalid_argument, {"group_size", "5", "16"}, [&] {
    convert_checkpoint(parse_checkpoint(made.bytes, "made"), directory / "out.bin", Format::v2, 5);
  });
  CHECK(directory.count() == 0);
}

TEST_CASE("convert: progress counts every matrix, to the end") {
  const TemporaryDirectory directory;
  const MadeCheckpoint made = make_checkpoint(kGrouped, Format::v0);
  std::vector<size_t> seen;
  convert_checkpoint(parse_checkpoint(made.bytes, "made"), directory / "out.bin", Format::v1, 0,
                     [&](size_t done, size_t total) {
                       CHECK(total == 9 * 3 + 3);  // nine tensors in each of three layers, and three beside
                       seen.push_back(done);
                     });
  REQUIRE(seen.size() == 31);
  for (size_t i = 0; i < seen.size(); ++i) CHECK(seen[i] == i);
}
