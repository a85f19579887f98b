#include <doctest/doctest.h>

#include <vector>

#include "kernels/inputs.h"
#include "model/made_models.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

std::vector<std::pair<TensorId, const Matrix*>> matrices(const Weights& w, size_t layer) {
  const LayerWeights& l = w.layers[layer];
  return {{TensorId::wq, &l.wq}, {TensorId::wk, &l.wk}, {TensorId::wv, &l.wv}, {TensorId::wo, &l.wo},
          {TensorId::w1, &l.w1}, {TensorId::w2, &l.w2}, {TensorId::w3, &l.w3}};
}

std::vector<float> all_rows(const Matrix& m) {
  std::vector<float> out(m.rows * m.cols);
  for (size_t row = 0; row < m.rows; ++row) m.row(row, out.data() + row * m.cols);
  return out;
}

}  // namespace

TEST_CASE("weights: fp32 of an fp32 file is the file itself") {
  for (const Case& c : cases()) {
    if (c.format == Format::v2) continue;
    CAPTURE(c.name);
    const Model model(make_checkpoint(c.config, c.format).bytes, {DType::float32, 1, ""});
    const Weights& w = model.weights();
    CHECK(w.owned_bytes() == 0);
    for (size_t l = 0; l < w.layers.size(); ++l) {
      for (const auto& [id, matrix] : matrices(w, l)) CHECK(matrix->f32 == model.checkpoint()[id].f32(l));
      CHECK(w.layers[l].rms_att == model.checkpoint()[TensorId::rms_att].f32(l));
      CHECK(w.layers[l].rms_ffn == model.checkpoint()[TensorId::rms_ffn].f32(l));
    }
    CHECK(w.rms_final == model.checkpoint()[TensorId::rms_final].f32(0));
    CHECK(w.tok_emb.f32 == model.checkpoint()[TensorId::tok_emb].f32(0));
    CHECK(&w.wcls() == (c.config.tied ? &w.tok_emb : &w.wcls()));
    CHECK(w.wcls().f32 == model.checkpoint()[c.config.tied ? TensorId::tok_emb : TensorId::wcls].f32(0));
  }
}

TEST_CASE("weights: int8 of a file, as int8 or as fp32, is q * scale of the flat rule") {
  for (const Case& c : cases()) {
    if (c.format != Format::v2) continue;
    CAPTURE(c.name);
    const MadeCheckpoint made = make_checkpoint(c.config, c.format, c.group_size);
    for (DType dtype : {DType::int8, DType::float32}) {
      const Model model(made.bytes, {dtype, 2, ""});
      CHECK(model.weights().dtype == dtype);
      auto check = [&](TensorId id, const Matrix& matrix, size_t layer) {
        const MadeTensor& tensor = made.tensors.at(std::string(tensor_name(id)));
        std::vector<float> expected;
        for (size_t k = 0; k < tensor.q8[layer].size(); ++k)
          expected.push_back(static_cast<float>(tensor.q8[layer][k]) * tensor.scales[layer][k / c.group_size]);
        CAPTURE(std::string(tensor_name(id)));
        CHECK((matrix.dtype != DType::float32) == (dtype == DType::int8));
        CHECK(same(all_rows(matrix), expected));
      };
      const Weights& w = model.weights();
      for (size_t l = 0; l < w.layers.size(); ++l)
        for (const auto& [id, matrix] : matrices(w, l)) check(id, *matrix, l);
      check(TensorId::tok_emb, w.tok_emb, 0);
      if (!c.config.tied) check(TensorId::wcls, w.wcls(), 0);
      CHECK(w.owned_bytes() > 0);
    }
  }
}

TEST_CASE("weights: int8 made at load time has one scale a row, the same bits on any number of threads") {
  const Variant variant = variants()[2];
  const auto one = variant.open(1, "scalar"), three = variant.open(3, "");
  const MadeCheckpoint made = make_checkpoint(variant.config, variant.format, 0, 3);
  for (size_t l = 0; l < one->weights().layers.size(); ++l)
    for (size_t m = 0; m < 7; ++m) {
      const auto [id, matrix] = matrices(one->weights(), l)[m];
      const std::vector<float> found = all_rows(*matrix), &file = made.tensors.at(std::string(tensor_name(id))).f32[l];
      CHECK(same(found, all_rows(*matrices(three->weights(), l)[m].second)));
      for (size_t row = 0; row < matrix->rows; ++row) {
        std::vector<int8_t> q(matrix->cols + kGroupColumns);
        std::vector<float> sums(q.size() / kGroupColumns);
        const float scale = kScalarKernels.quantise_row(q.data(), sums.data(), file.data() + row * matrix->cols, matrix->cols);
        for (size_t col = 0; col < matrix->cols; ++col)
          REQUIRE(found[row * matrix->cols + col] == static_cast<float>(q[col]) * scale);
      }
    }
}

TEST_CASE("weights: bytes that one token reads") {
  const Config config{8, 12, 2, 2, 1, 11, 6, true};
  const Model model(make_checkpoint(config, Format::v0).bytes, {DType::float32, 1, ""});
  const size_t layer = 8 * 8 * 2 + 4 * 8 * 2 + 3 * 12 * 8 + 2 * 8;
  CHECK(model.weights().bytes_per_token() == 4 * (2 * layer + 11 * 8 + 8));
}
