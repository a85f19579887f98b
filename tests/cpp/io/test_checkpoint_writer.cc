#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "io/checkpoint_writer.h"
#include "io/expect_error.h"
#include "io/make_checkpoint.h"
#include "io/temporary_directory.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

const Config kSmall{8, 12, 2, 2, 2, 11, 6, true};

void write_next(CheckpointWriter& writer, const MadeCheckpoint& made) {
  const CheckpointWriter::Slot slot = writer.next();
  const MadeTensor& tensor = made.tensors.at(std::string(tensor_name(slot.id)));
  if (slot.quantised) {
    writer.write(tensor.q8.at(slot.layer), tensor.scales.at(slot.layer));
  } else {
    writer.write(tensor.f32.at(slot.layer));
  }
}

void write_all(CheckpointWriter& writer, const MadeCheckpoint& made) {
  while (!writer.done()) write_next(writer, made);
}

}  // namespace

TEST_CASE("checkpoint writer: the bytes are those of the format") {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    CheckpointWriter writer(path, c.config, c.format, c.group_size);
    write_all(writer, made);
    writer.commit();
    std::vector<std::byte> written = read_file(path);
    REQUIRE(written.size() == made.bytes.size());
    for (const Piece& piece : made.pieces) {  // the made tables are random; the written ones are tested below
      if (piece.tensor != "rope") continue;
      std::copy_n(written.begin() + static_cast<std::ptrdiff_t>(piece.begin), piece.end - piece.begin,
                  made.bytes.begin() + static_cast<std::ptrdiff_t>(piece.begin));
    }
    CHECK(written == made.bytes);
    CHECK(parse_checkpoint(written, path).format == c.format);
  }
  CHECK(directory.count() == 1);
}

TEST_CASE("checkpoint writer: the RoPE tables of v0 are cosines, then sines") {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  const Config config{16, 22, 3, 4, 2, 13, 5, false};
  const MadeCheckpoint made = make_checkpoint(config, Format::v0);
  CheckpointWriter writer(path, config, Format::v0);
  write_all(writer, made);
  writer.commit();
  const std::vector<std::byte> written = read_file(path);
  const auto rope = std::ranges::find(made.pieces, "rope", &Piece::tensor);
  REQUIRE(rope != made.pieces.end());
  const size_t positions = 5, pairs = 2;
  for (size_t position = 0; position < positions; ++position) {
    for (size_t i = 0; i < pairs; ++i) {
      float cosine, sine;
      const size_t at = rope->begin + (position * pairs + i) * sizeof(float);
      std::memcpy(&cosine, &written[at], sizeof cosine);
      std::memcpy(&sine, &written[at + positions * pairs * sizeof(float)], sizeof sine);
      const double angle = static_cast<double>(position) * (i == 0 ? 1.0 : 0.01);  // 10000^(-2i/4)
      CHECK(cosine == doctest::Approx(std::cos(angle)).epsilon(1e-6));
      CHECK(sine == doctest::Approx(std::sin(angle)).epsilon(1e-6));
    }
  }
}

TEST_CASE("checkpoint writer: what the reader would refuse is not written") {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  const auto refused = [&](const Config& bad, Format format, size_t group_size,
                           std::initializer_list<std::string> words) {
    expect_error(Code::invalid_argument, words, [&] { CheckpointWriter(path, bad, format, group_size); });
  };
  Config config = kSmall;
  config.n_heads = 3;
  refused(config, Format::v0, 0, {path, "n_heads is 3", "8"});
  config = kSmall;
  config.vocab_size = -11;
  refused(config, Format::v0, 0, {"vocab_size is -11"});
  config = kSmall;
  config.norm_eps = 1e-6f;
  refused(config, Format::v1, 0, {"norm_eps is 1e-06", "1e-05"});
  config = kSmall;
  config.rope_theta = 500000;
  refused(config, Format::v1, 0, {"rope_theta 500000", "10000"});
  refused(kSmall, Format::v2, 0, {"group_size is 0"});
  refused(kSmall, Format::v2, 3, {"group_size is 3", "8"});
  refused(kSmall, Format::v2, 16, {"group_size is 16", "8"});
  refused(kSmall, Format::v2, std::numeric_limits<size_t>::max(), {"group_size is"});
  refused(kSmall, Format::v1, 8, {"group_size is 8", "no groups"});
  CHECK(directory.count() == 0);
}

TEST_CASE("checkpoint writer: tensors of the wrong kind or size") {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  const MadeCheckpoint made = make_checkpoint(kSmall, Format::v2, 8);
  CheckpointWriter writer(path, kSmall, Format::v2, 8);
  const std::vector<float> vector(8);
  const std::vector<int8_t> matrix(88);
  std::vector<float> scales(11);
  expect_error(Code::invalid_argument, {"rms_att", "fp32"}, [&] { writer.write(matrix, scales); });
  expect_error(Code::invalid_argument, {"rms_att, layer 0", "8 values", "not 7"},
               [&] { writer.write(std::span(vector).first(7)); });
  while (writer.next().id != TensorId::tok_emb) write_next(writer, made);
  expect_error(Code::invalid_argument, {"tok_emb", "int8"}, [&] { writer.write(vector); });
  expect_error(Code::invalid_argument, {"tok_emb", "88 values", "not 87"},
               [&] { writer.write(std::span(matrix).first(87), scales); });
  expect_error(Code::invalid_argument, {"tok_emb", "11 scales", "not 10"},
               [&] { writer.write(matrix, std::span(scales).first(10)); });
  scales[4] = INFINITY;
  expect_error(Code::invalid_argument, {"scale 4", "tok_emb", "inf"}, [&] { writer.write(matrix, scales); });
  // None of this has left a trace in the file.
  write_all(writer, made);
  writer.commit();
  CHECK(read_file(path) == made.bytes);
}

TEST_CASE("checkpoint writer: too few tensors, too many, two commits") {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  const MadeCheckpoint made = make_checkpoint(kSmall, Format::v1);
  CheckpointWriter writer(path, kSmall, Format::v1);
  write_next(writer, made);
  expect_error(Code::invalid_argument, {"1 of 20", "rms_att, layer 1"}, [&] { writer.commit(); });
  CHECK(!std::filesystem::exists(path));
  write_all(writer, made);
  CHECK(writer.done());
  expect_error(Code::invalid_argument, {"all 20"}, [&] { writer.write(std::vector<float>(8)); });
  writer.commit();
  expect_error(Code::invalid_argument, {"already complete"}, [&] { writer.commit(); });
  CHECK(read_file(path) == made.bytes);
}
