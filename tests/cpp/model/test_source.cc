#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "io/expect_error.h"
#include "kernels/inputs.h"
#include "model/made_models.h"
#include "model/source.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

const Config kOdd{48, 43, 2, 4, 2, 31, 64, false};

// The tensors of a v0 file as arrays of their own, and word when they are let go of.
struct Arrays {
  explicit Arrays(const Config& config) : file(make_checkpoint(config, Format::v0, 0, 3).bytes) {
    const Checkpoint parsed = parse_checkpoint(file, "made");
    for (size_t i = 0; i < kTensorCount; ++i) {
      const TensorView& tensor = parsed.tensors[i];
      for (size_t layer = 0; layer < tensor.shape.layers; ++layer)
        values[i].insert(values[i].end(), tensor.f32(layer), tensor.f32(layer) + tensor.shape.size());
      spans[i] = values[i];
    }
  }

  std::shared_ptr<const void> keeper(bool& gone) {
    return {values.data(), [&gone](const void*) { gone = true; }};
  }

  std::vector<std::byte> file;
  std::array<std::vector<float>, kTensorCount> values;
  TensorArrays spans;
};

}  // namespace

TEST_CASE("source: arrays give the bits of the file they came from, in every precision") {
  for (bool tied : {true, false}) {
    Config config = kOdd;
    config.tied = tied;
    Arrays arrays(config);
    for (DType dtype : {DType::float32, DType::int8, DType::int4}) {
      bool gone = false;
      auto source = std::make_shared<const Source>(config, arrays.spans, arrays.keeper(gone));
      CHECK(source->checkpoint().format == Format::arrays);
      const uint64_t fingerprint = source->fingerprint();
      Model of_arrays(std::move(source), {dtype, 1, ""}), of_file(arrays.file, {dtype, 1, ""});
      const std::vector<int32_t> tokens = random_tokens(config, 9);
      CHECK(same(logits_of(of_arrays, tokens), logits_of(of_file, tokens)));
      CHECK(of_arrays.fingerprint() == fingerprint);
      CHECK(of_arrays.checkpoint().parameters() == of_file.checkpoint().parameters());
      // fp32 is used in place, and so kept; what was quantised is let go of at once.
      CHECK(gone == (dtype != DType::float32));
      CHECK(of_arrays.source_bytes() == (gone ? 0 : of_arrays.checkpoint().parameters() * sizeof(float)));
      CHECK((of_arrays.weights().tok_emb.f32 == arrays.values[0].data()) == !gone);
    }
  }
}

TEST_CASE("source: quantised arrays may be overwritten afterwards") {
  Arrays arrays(kOdd);
  bool gone = false;
  Model model(std::make_shared<const Source>(kOdd, arrays.spans, arrays.keeper(gone)), {DType::int8, 1, ""});
  const std::vector<int32_t> tokens = random_tokens(kOdd, 5);
  const std::vector<float> before = logits_of(model, tokens);
  for (auto& values : arrays.values) std::fill(values.begin(), values.end(), 0.0f);
  CHECK(same(logits_of(model, tokens), before));
}

TEST_CASE("source: other numbers in any matrix, another fingerprint") {
  Arrays arrays(kOdd);
  const uint64_t before = Source(kOdd, arrays.spans, nullptr).fingerprint();
  for (auto& values : arrays.values) {
    if (values.size() < 200) continue;  // a vector can lie between two samples
    for (float& value : values) value = -value;
    CHECK(Source(kOdd, arrays.spans, nullptr).fingerprint() != before);
    for (float& value : values) value = -value;
  }
  CHECK(Source(kOdd, arrays.spans, nullptr).fingerprint() == before);
}

TEST_CASE("source: arrays that do not fit are refused by name") {
  Arrays arrays(kOdd);
  for (size_t i = 0; i < kTensorCount; ++i) {
    TensorArrays cut = arrays.spans;
    cut[i] = cut[i].first(cut[i].size() - 1);
    expect_error(Code::invalid_argument, {std::string(tensor_name(static_cast<TensorId>(i))), std::to_string(cut[i].size())},
                 [&] { Source(kOdd, cut, nullptr); });
  }
  TensorArrays missing = arrays.spans;
  missing[static_cast<size_t>(TensorId::w2)] = {};
  expect_error(Code::invalid_argument, {"w2", "0 numbers"}, [&] { Source(kOdd, missing, nullptr); });
  Config tied = kOdd;
  tied.tied = true;
  expect_error(Code::invalid_argument, {"wcls"}, [&] { Source(tied, arrays.spans, nullptr); });
}

TEST_CASE("source: a shape that no model has is refused before anything is looked at") {
  const TensorArrays none;
  auto refused = [&](auto change, const std::string& word) {
    Config config = kOdd;
    change(config);
    expect_error(Code::invalid_argument, {word}, [&] { Source(config, none, nullptr); });
  };
  refused([](Config& c) { c.dim = 0; }, "dim");
  refused([](Config& c) { c.n_heads = 5; }, "n_heads");
  refused([](Config& c) { c.n_heads = c.n_kv_heads = 0; }, "n_heads");
  refused([](Config& c) { c.vocab_size = -1; }, "vocab_size");
  refused([](Config& c) { c.n_layers = 1 << 20; }, "n_layers");
  refused([](Config& c) { c.norm_eps = 0; }, "norm_eps");
  refused([](Config& c) { c.rope_theta = 0; }, "rope_theta");
}
