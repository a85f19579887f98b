// A whole model on the emulated GPU has the bits of the CPU: every type of weights, prompts and tokens, several
// sequences at once, every intermediate, whatever order threads run in.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/orders.h"
#include "io/expect_error.h"
#include "kernels/inputs.h"
#include "model/made_models.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

std::vector<Row> rows_of(const std::vector<int32_t>& tokens, size_t first, size_t last, const KvCache& cache) {
  std::vector<Row> rows;
  for (size_t i = first; i < last; ++i) rows.push_back({tokens[i], static_cast<int32_t>(i), cache.table(), true});
  return rows;
}

using Intermediates = std::map<std::string, std::vector<float>>;

Intermediates observed(Backend& backend, std::span<const Row> rows, float* logits) {
  Intermediates found;
  backend.run(rows, logits, [&](const Intermediate& i) {
    std::vector<float>& values = found[i.name + std::to_string(i.layer)];
    for (size_t r = 0; r < i.rows; ++r) values.insert(values.end(), i.data + r * i.stride, i.data + r * i.stride + i.cols);
  });
  return found;
}

}  // namespace

TEST_CASE("cuda forward: every type of weights and cache, prompt and tokens, in every order") {
  std::vector<Variant> all = variants();
  for (Variant variant : variants()) {
    variant.name += ", int4";
    if (variant.format == Format::v0) variant.dtype = DType::int4, all.push_back(variant);
  }
  uint64_t seed = 1;
  for (const Variant& variant : all) {
    CAPTURE(variant.name);
    for (KvType type : {KvType::float32, KvType::float16, KvType::int8}) {
      if (type != KvType::float32 && &variant != &all.front() && &variant != &all.back()) continue;
      const auto model = std::make_shared<Model>(variant.bytes(), ModelOptions{variant.dtype, 1, "scalar", type});
      const std::vector<int32_t> first = random_tokens(variant.config, 23, 1), second = random_tokens(variant.config, 3, 2);
      const std::vector<float> expected_first = logits_of(*model, first, 16), expected_second = logits_of(*model, second, 16);
      const size_t V = static_cast<size_t>(variant.config.vocab_size);
      run_in_order(++seed);
      cuda::Gpu forward(*model);
      KvCache a(model->kv_layout(), forward.block_memory()), b(model->kv_layout(), forward.block_memory());
      a.reserve(first.size());
      b.reserve(second.size());
      std::vector<float> logits(20 * V);
      forward.run(rows_of(first, 0, 20, a), logits.data());
      CHECK(same(logits, std::span<const float>(expected_first).first(20 * V)));
      for (size_t i = 0; i < second.size(); ++i) {
        std::vector<Row> both = rows_of(first, 20 + i, 21 + i, a);
        both.push_back(rows_of(second, i, i + 1, b)[0]);
        logits.resize(2 * V);
        forward.run(both, logits.data());
        CHECK(same(std::span<const float>(logits).first(V), std::span<const float>(expected_first).subspan((20 + i) * V, V)));
        CHECK(same(std::span<const float>(logits).last(V), std::span<const float>(expected_second).subspan(i * V, V)));
      }
      run_in_order(0);
    }
  }
}

TEST_CASE("cuda forward: every intermediate, and logits of some rows only") {
  for (const Variant& variant : {variants()[0], variants()[5]}) {
    CAPTURE(variant.name);
    const auto model = variant.open(1, "scalar");
    const KvType type = model->kv_layout().type;
    Forward expected(model->weights(), type, model->kernels(), model->pool());
    cuda::Gpu found(*model);
    KvCache a(model->kv_layout()), b(model->kv_layout(), found.block_memory());
    a.reserve(20);
    b.reserve(20);
    const std::vector<int32_t> tokens = random_tokens(variant.config, 20);
    std::vector<Row> here = rows_of(tokens, 0, 20, a), there = rows_of(tokens, 0, 20, b);
    for (size_t i = 0; i < here.size(); ++i) here[i].wants_logits = there[i].wants_logits = i % 3 == 1;
    const size_t V = static_cast<size_t>(variant.config.vocab_size);
    std::vector<float> logits_here(7 * V), logits_there(7 * V);
    const Intermediates one = observed(expected, here, logits_here.data()), other = observed(found, there, logits_there.data());
    CHECK(same(logits_here, logits_there));
    REQUIRE(one.size() == other.size());
    for (const auto& entry : one) {
      CAPTURE(entry.first);
      CHECK(same(entry.second, other.at(entry.first)));
    }
  }
}

TEST_CASE("cuda forward: nothing to do, nothing wanted, and a copy of a block") {
  const auto model = variants()[0].open(1, "scalar");
  cuda::Gpu forward(*model);
  forward.run({}, nullptr);
  KvCache cache(model->kv_layout(), forward.block_memory()), other(model->kv_layout(), forward.block_memory());
  cache.reserve(5);
  other.reserve(5);
  const std::vector<int32_t> tokens = random_tokens(model->config(), 5);
  std::vector<Row> rows = rows_of(tokens, 0, 4, cache);
  for (Row& row : rows) row.wants_logits = false;
  forward.run(rows, nullptr);
  forward.copy_block(other.table()[0], cache.table()[0], model->kv_layout().block_bytes());
  const std::vector<float> expected = logits_of(*model, tokens);
  const size_t V = static_cast<size_t>(model->config().vocab_size);
  std::vector<float> logits(V);
  forward.run(rows_of(tokens, 4, 5, other), logits.data());
  CHECK(same(logits, std::span<const float>(expected).last(V)));
}

namespace {

// A v0 file whose numbers are smaller: the random weights of the others make attention so sharp that the last bit of a
// score decides.
std::vector<std::byte> calm(const Variant& variant) {
  std::vector<std::byte> bytes = variant.bytes();
  for (size_t i = 28; i < bytes.size(); i += sizeof(float)) {
    float x;
    std::memcpy(&x, bytes.data() + i, sizeof x);
    x *= 0.35f;
    std::memcpy(bytes.data() + i, &x, sizeof x);
  }
  return bytes;
}

std::vector<Variant> calm_variants() {
  Variant odd = variants()[1];
  odd.format = Format::v0;
  return {variants()[0], odd};
}

std::shared_ptr<Model> rounded(const Variant& variant, Rounding rounding) {
  ModelOptions options{DType::float32, 1, "scalar"};
  options.device = Device::cuda;
  options.rounding = rounding;
  return std::make_shared<Model>(calm(variant), options);
}

std::shared_ptr<Model> exact(const Variant& variant) {
  return std::make_shared<Model>(calm(variant), ModelOptions{DType::float32, 1, "scalar"});
}

// Logits of every token, in passes of `cut` tokens.
std::vector<float> logits_on_gpu(cuda::Gpu& gpu, const Model& model, const std::vector<int32_t>& tokens, size_t cut) {
  const size_t V = static_cast<size_t>(model.config().vocab_size);
  KvCache cache(model.kv_layout(), gpu.block_memory());
  cache.reserve(tokens.size());
  std::vector<float> logits(tokens.size() * V);
  for (size_t first = 0; first < tokens.size(); first += cut)
    gpu.run(rows_of(tokens, first, std::min(first + cut, tokens.size()), cache), logits.data() + first * V);
  return logits;
}

float largest_of(std::span<const float> values) {
  float largest = 0;
  for (float x : values) largest = std::max(largest, std::abs(x));
  return largest;
}

}  // namespace

TEST_CASE("cuda forward: weights of 16 bits are near the CPU, and a row has one set of bits") {
  for (const auto& [rounding, tolerance] : {std::pair(Rounding::float16, 2e-3f), std::pair(Rounding::bfloat16, 2e-2f)})
    for (const Variant& variant : calm_variants()) {
      CAPTURE(variant.name);
      const auto model = rounded(variant, rounding);
      CHECK(model->kv_layout().type == KvType::float16);
      const std::vector<int32_t> tokens = random_tokens(variant.config, 35);
      const std::vector<float> expected = logits_of(*exact(variant), tokens, 35);
      cuda::Gpu gpu(*model);
      const std::vector<float> found = logits_on_gpu(gpu, *model, tokens, 35);
      float worst = 0;
      for (size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(found[i] - expected[i]));
      CHECK(worst <= tolerance * largest_of(expected));
      CHECK(worst > 0);
      for (size_t cut : {1, 9}) {
        run_in_order(2 * cut);
        CHECK(same(logits_on_gpu(gpu, *model, tokens, cut), found));
      }
      run_in_order(0);
    }
}

TEST_CASE("cuda forward: with 16 bits every intermediate can be seen, without a change") {
  const Variant variant = calm_variants()[1];
  const auto model = rounded(variant, Rounding::float16);
  cuda::Gpu gpu(*model);
  KvCache cache(model->kv_layout(), gpu.block_memory());
  cache.reserve(20);
  const std::vector<int32_t> tokens = random_tokens(model->config(), 20);
  const size_t V = static_cast<size_t>(model->config().vocab_size);
  std::vector<float> logits(20 * V), again(20 * V);
  const Intermediates seen = observed(gpu, rows_of(tokens, 0, 20, cache), logits.data());
  gpu.run(rows_of(tokens, 0, 20, cache), again.data());
  CHECK(same(logits, again));
  const auto wide = exact(variant);
  Forward forward(wide->weights(), KvType::float32, wide->kernels(), wide->pool());
  KvCache host(wide->kv_layout());
  host.reserve(20);
  const Intermediates expected = observed(forward, rows_of(tokens, 0, 20, host), again.data());
  REQUIRE(seen.size() == expected.size());
  for (const auto& entry : expected) {
    CAPTURE(entry.first);
    const std::vector<float>& found = seen.at(entry.first);
    REQUIRE(found.size() == entry.second.size());
    float worst = 0;
    for (size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(found[i] - entry.second[i]));
    CHECK(worst <= 2e-3f * largest_of(entry.second));
  }
}

TEST_CASE("cuda forward: 16 bits are not for the CPU, and not for every number") {
  ModelOptions options{DType::float32, 1, "scalar"};
  options.rounding = Rounding::float16;
  expect_error(Code::backend, {"dtype is float16", "device cuda", "float32, int8 or int4"},
               [&] { Model(variants()[0].bytes(), options); });
}

TEST_CASE("cuda forward: launches of a pass") {
  for (const Variant& variant : {variants()[0], variants()[2], variants()[4]})
    for (Rounding rounding : {Rounding::none, Rounding::float16}) {
      if (rounding != Rounding::none && variant.dtype != DType::float32) continue;
      const auto model = rounding == Rounding::none ? variant.open(1, "scalar") : rounded(variant, rounding);
      cuda::Gpu gpu(*model);
      const size_t before = launches();
      logits_on_gpu(gpu, *model, {1, 2, 3}, 3);
      // norm, wq wk wv, rope and store, attention, wo, norm, w1 w3, swiglu (not with 16 bits), w2; and at the ends
      // embedding, norm, classifier.
      const size_t of_layer = rounding == Rounding::none ? 9 : 8, layers = static_cast<size_t>(model->config().n_layers);
      if (kEmulated) CHECK(launches() - before == of_layer * layers + 3);
    }
}
