#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "io/layout.h"
#include "io/make_checkpoint.h"

using namespace tinyzh;
using namespace tinyzh::testing;

TEST_CASE("layout: the sections are the pieces of the file, in its order") {
  for (const Case& c : cases()) {
    CAPTURE(c.name);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    auto piece = made.pieces.begin();
    for (const Section& section : file_sections(c.config, c.format, c.group_size)) {
      for (uint64_t layer = 0; layer < section.layers; ++layer, ++piece) {
        REQUIRE(piece != made.pieces.end());
        CHECK(piece->tensor == (section.tensor ? tensor_name(*section.tensor) : "rope"));
        CHECK(piece->layer == layer);
        CHECK(piece->end - piece->begin == section.layer_bytes);
      }
    }
    CHECK(piece == made.pieces.end());
    CHECK(made.pieces.front().begin == header_size(c.format));
    CHECK(file_size(c.config, c.format, c.group_size) == made.bytes.size());
  }
}

TEST_CASE("layout: the file of the 93M story model") {
  const Config config{768, 2268, 12, 12, 12, 3000, 768, true};
  // 93,340,416 parameters, 49,152 numbers of RoPE tables, and the header
  CHECK(file_size(config, Format::v0, 0) == 28 + 4 * (93'340'416 + 768 * 64));
  // 93,321,216 of them are int8 in groups of 64; the norms are fp32
  CHECK(file_size(config, Format::v2, 64) == 256 + 4 * 25 * 768 + 93'321'216 + 93'321'216 / 64 * 4);
}

TEST_CASE("layout: a group size that divides dim divides every matrix") {
  for (int32_t dim = 2; dim <= 48; dim += 2) {
    for (size_t group_size = 1; group_size <= static_cast<size_t>(dim); ++group_size) {
      const Config config{dim, 43, 1, 1, 1, 7, 3, false};
      if (!header_problem(config, Format::v2, static_cast<int64_t>(group_size)).empty()) continue;
      for (const TensorId id : all_tensors()) CHECK(tensor_shape(config, id).size() % group_size == 0);
    }
  }
}

TEST_CASE("layout: what has no problem and what has") {
  const Config config{8, 12, 2, 2, 2, 11, 6, true};
  CHECK(header_problem(config, Format::v0, 0) == "");
  CHECK(header_problem(config, Format::v1, -1) == "");  // no groups there, so none that are wrong
  CHECK(header_problem(config, Format::v2, 4) == "");
  CHECK(header_problem(config, Format::v2, 3).find("group_size is 3") == 0);
  Config wide = config;
  wide.dim = kMaxDim;
  wide.hidden_dim = kMaxDim;
  wide.n_layers = kMaxLayers;
  wide.vocab_size = kMaxVocab;
  wide.seq_len = kMaxSeqLen;
  CHECK(header_problem(wide, Format::v2, kMaxDim) == "");
}
