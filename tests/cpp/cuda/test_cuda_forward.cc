// A whole model on the emulated GPU has the bits of the CPU: every type of weights, prompts and tokens, several
// sequences at once, every intermediate, whatever order threads run in.
#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "cuda/emulation.h"
#include "cuda/forward.h"
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
    for (KvType type : {KvType::float32, KvType::float16}) {
      if (type == KvType::float16 && &variant != &all.front() && &variant != &all.back()) continue;
      const auto model = std::make_shared<Model>(variant.bytes(), ModelOptions{variant.dtype, 1, "scalar", type});
      const std::vector<int32_t> first = random_tokens(variant.config, 23, 1), second = random_tokens(variant.config, 3, 2);
      const std::vector<float> expected_first = logits_of(*model, first, 16), expected_second = logits_of(*model, second, 16);
      const size_t V = static_cast<size_t>(variant.config.vocab_size);
      cuda::emulation::set_schedule({seed % 3 == 0 ? cuda::emulation::Order::reverse : cuda::emulation::Order::random, seed});
      ++seed;
      cuda::Forward forward(model->weights(), type);
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
      cuda::emulation::set_schedule({});
    }
  }
}

TEST_CASE("cuda forward: every intermediate, and logits of some rows only") {
  for (const Variant& variant : {variants()[0], variants()[5]}) {
    CAPTURE(variant.name);
    const auto model = variant.open(1, "scalar");
    const KvType type = model->kv_layout().type;
    Forward expected(model->weights(), type, model->kernels(), model->pool());
    cuda::Forward found(model->weights(), type);
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
  cuda::Forward forward(model->weights(), KvType::float32);
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

TEST_CASE("cuda forward: a cache that it does not have") {
  const auto model = variants()[0].open(1, "scalar");
  expect_error(Code::backend, {"kv_dtype is int8", "float32 or float16"},
               [&] { cuda::Forward(model->weights(), KvType::int8); });
}
