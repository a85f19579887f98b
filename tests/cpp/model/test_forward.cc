// The same bits, whatever else is computed, in whatever pieces, on however many threads, with whichever
// instructions, under whichever floating-point settings.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/unusual_floating_point.h"
#include "kernels/inputs.h"
#include "model/made_models.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

constexpr size_t kTokens = 75;

// The definition: scalar, one thread, one token at a time.
std::vector<float> definition(const Variant& variant, const std::vector<int32_t>& tokens) {
  const auto model = variant.open(1, "scalar");
  std::vector<float> logits = logits_of(*model, tokens);
  for (float a : logits) REQUIRE(std::isfinite(a));
  return logits;
}

using Vector = std::vector<double>;

Vector times(const Matrix& m, const Vector& x) {
  Vector out(m.rows);
  std::vector<float> row(m.cols);
  for (size_t r = 0; r < m.rows; ++r) {
    m.row(r, row.data());
    for (size_t c = 0; c < m.cols; ++c) out[r] += row[c] * x[c];
  }
  return out;
}
Vector norm(const Vector& x, const float* weight) {
  double squares = 0;
  for (double a : x) squares += a * a;
  Vector out = x;
  for (size_t i = 0; i < x.size(); ++i) out[i] *= weight[i] / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
  return out;
}
void rotate(Vector& x, size_t head_size, size_t position) {
  for (size_t i = 0; i < x.size(); i += 2) {
    const double exponent = static_cast<double>(i % head_size) / static_cast<double>(head_size);
    const double angle = static_cast<double>(position) * std::pow(10000.0, -exponent), a = x[i], b = x[i + 1];
    x[i] = a * std::cos(angle) - b * std::sin(angle);
    x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
  }
}

// Llama 2 as the paper says it, one token after another, without blocks, caches or lanes.
Vector paper(const Weights& w, const std::vector<int32_t>& tokens) {
  const auto size = static_cast<size_t>(w.config.head_size()), heads = static_cast<size_t>(w.config.n_heads);
  const size_t group = heads / static_cast<size_t>(w.config.n_kv_heads);
  std::vector<std::vector<Vector>> keys(w.layers.size()), values(w.layers.size());
  Vector all;
  for (size_t position = 0; position < tokens.size(); ++position) {
    std::vector<float> embedding(static_cast<size_t>(w.config.dim));
    w.tok_emb.row(static_cast<size_t>(tokens[position]), embedding.data());
    Vector x(embedding.begin(), embedding.end());
    auto add = [&x](const Vector& y) {
      for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    };
    for (size_t l = 0; l < w.layers.size(); ++l) {
      const LayerWeights& layer = w.layers[l];
      Vector a = norm(x, layer.rms_att), q = times(layer.wq, a), k = times(layer.wk, a), out(x.size());
      rotate(q, size, position);
      rotate(k, size, position);
      keys[l].push_back(k);
      values[l].push_back(times(layer.wv, a));
      for (size_t h = 0; h < heads; ++h) {
        Vector p;
        double total = 0;
        for (const Vector& key : keys[l]) {
          double score = 0;
          for (size_t d = 0; d < size; ++d) score += q[h * size + d] * key[h / group * size + d];
          p.push_back(std::exp(score / std::sqrt(static_cast<double>(size))));
          total += p.back();
        }
        for (size_t t = 0; t <= position; ++t)
          for (size_t d = 0; d < size; ++d) out[h * size + d] += p[t] / total * values[l][t][h / group * size + d];
      }
      add(times(layer.wo, out));
      a = norm(x, layer.rms_ffn);
      Vector gate = times(layer.w1, a);
      const Vector up = times(layer.w3, a);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      add(times(layer.w2, gate));
    }
    const Vector logits = times(w.wcls(), norm(x, w.rms_final));
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

}  // namespace

TEST_CASE("forward: the logits of the paper, in double precision") {
  for (const Variant& variant : variants()) {
    // int8 rounds activations, on purpose; and random int8 weights are so large that softmax magnifies
    // every rounding.
    if (variant.dtype != DType::float32 || variant.format == Format::v2) continue;
    CAPTURE(variant.name);
    const std::vector<int32_t> tokens = random_tokens(variant.config, 40);
    const auto model = variant.open(2, "");
    const std::vector<float> found = logits_of(*model, tokens, 8);
    const std::vector<double> expected = paper(model->weights(), tokens);
    double largest = 0, error = 0;
    for (size_t i = 0; i < found.size(); ++i) {
      REQUIRE(std::isfinite(expected[i]));
      REQUIRE(std::isfinite(found[i]));
      largest = std::max(largest, std::fabs(expected[i]));
      error = std::max(error, std::fabs(found[i] - expected[i]));
    }
    CHECK(largest > 1);
    CHECK(error < 1e-4 * largest);
  }
}

TEST_CASE("forward: a prompt cut anywhere, on any number of threads, with any instruction set") {
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    const std::vector<int32_t> tokens = random_tokens(variant.config, kTokens);
    const std::vector<float> expected = definition(variant, tokens);
    for (const Kernels* kernels : runnable_kernels()) {
      CAPTURE(std::string(kernels->name));
      for (int threads : {1, 2, 3}) {
        CAPTURE(threads);
        const auto model = variant.open(threads, kernels->name);
        const std::vector<size_t> few = {7, kTokens}, all = {1, 2, 7, 16, kTokens};
        for (const size_t cut : threads == 1 ? all : few) {
          CAPTURE(cut);
          CHECK(same(logits_of(*model, tokens, cut), expected));
        }
      }
    }
  }
}

TEST_CASE("forward: whatever was in the memory of keys and values before") {
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    for (const KvType type : {KvType::float32, KvType::float16, KvType::int8}) {
      for (const Kernels* kernels : runnable_kernels()) {
        CAPTURE(std::string(kernels->name));
        const Model model(variant.bytes(), ModelOptions{variant.dtype, 2, kernels->name, type});
        const KvLayout layout = model.kv_layout();
        const std::vector<int32_t> tokens = random_tokens(variant.config, 37);
        std::vector<std::vector<float>> logits;
        for (const int filling : {0x00, 0xFF}) {  // zeros; NaN in every type of floating point
          std::vector<std::byte> memory(layout.block_bytes() * KvLayout::blocks(tokens.size()), static_cast<std::byte>(filling));
          std::vector<std::byte*> blocks;
          for (size_t at = 0; at < memory.size(); at += layout.block_bytes()) blocks.push_back(memory.data() + at);
          std::vector<Row> rows;
          for (size_t i = 0; i < tokens.size(); ++i) rows.push_back({tokens[i], static_cast<int32_t>(i), blocks.data(), true});
          ThreadPool pool(2);
          Forward forward(model.weights(), type, model.kernels(), pool);
          logits.emplace_back(tokens.size() * static_cast<size_t>(variant.config.vocab_size));
          for (size_t first = 0, count = 1; first < rows.size(); first += count, ++count)  // passes of 1, 2, 3 ... rows
            forward.run(std::span(rows).subspan(first, std::min(count, rows.size() - first)),
                        logits.back().data() + first * static_cast<size_t>(variant.config.vocab_size));
        }
        CHECK(same(logits[0], logits[1]));
      }
    }
  }
}

TEST_CASE("forward: passes of the largest size, over more positions than one pass holds") {
  for (const Variant& variant : variants()) {
    if (variant.name.find("odd") != std::string::npos) continue;
    CAPTURE(variant.name);
    const std::vector<int32_t> tokens = random_tokens(variant.config, 300);
    const auto model = variant.open(2, "");
    const std::vector<float> expected = logits_of(*model, tokens, 7);
    CHECK(same(logits_of(*model, tokens, Forward::kMaxRows), expected));
    CHECK(same(logits_of(*model, tokens, 1), expected));
  }
}

TEST_CASE("forward: rows of several sequences mixed in one pass, in any order") {
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    const auto model = variant.open(2, "");
    const auto vocab = static_cast<size_t>(variant.config.vocab_size);
    struct Sequence {
      std::vector<int32_t> tokens;
      std::vector<float> expected;
      KvCache cache;
      size_t done = 0;
    };
    std::vector<Sequence> sequences;
    for (uint32_t s = 0; s < 4; ++s) {
      const std::vector<int32_t> tokens = random_tokens(variant.config, 10 + 13 * s, 10 + s);
      sequences.push_back({tokens, logits_of(*model, tokens), KvCache(model->kv_layout())});
      sequences.back().cache.reserve(tokens.size());
    }
    std::mt19937 random(5);
    Forward forward(model->weights(), model->kv_layout().type, model->kernels(), model->pool());
    bool more = true;
    while (more) {
      struct Asked {
        size_t sequence, position;
      };
      std::vector<std::pair<Row, Asked>> mixed;
      for (size_t s = 0; s < sequences.size(); ++s) {
        Sequence& sequence = sequences[s];
        for (size_t n = random() % 6; n > 0 && sequence.done < sequence.tokens.size(); --n, ++sequence.done)
          mixed.push_back({{sequence.tokens[sequence.done], static_cast<int32_t>(sequence.done), sequence.cache.table(),
                            random() % 2 == 0},
                           {s, sequence.done}});
      }
      std::shuffle(mixed.begin(), mixed.end(), random);
      std::vector<Row> rows;
      std::vector<Asked> asked;
      for (const auto& [row, who] : mixed) {
        rows.push_back(row);
        if (row.wants_logits) asked.push_back(who);
      }
      std::vector<float> logits(asked.size() * vocab);
      forward.run(rows, logits.data());
      for (size_t i = 0; i < asked.size(); ++i)
        CHECK(same(std::span(logits).subspan(i * vocab, vocab),
                   std::span(sequences[asked[i].sequence].expected).subspan(asked[i].position * vocab, vocab)));
      more = std::any_of(sequences.begin(), sequences.end(), [](const Sequence& s) { return s.done < s.tokens.size(); });
    }
  }
}

TEST_CASE("forward: under the floating-point settings of a game") {
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    const std::vector<int32_t> tokens = random_tokens(variant.config, 20);
    const std::vector<float> expected = definition(variant, tokens);
    const std::vector<std::byte> bytes = variant.bytes();
    for (const Unusual& setting : unusual_settings()) {
      CAPTURE(setting.name);
      std::vector<float> found;
      uint64_t before, after;
      {
        const UnusualFloatingPoint unusual(setting);  // while the model is opened, too
        before = floating_point_word();
        Model model(bytes, {variant.dtype, 2, ""});
        found = logits_of(model, tokens, 6);
        after = floating_point_word();
      }
      CHECK(same(found, expected));
      CHECK(after == before);
    }
  }
}

TEST_CASE("forward: a token at another position, or after other tokens, has other logits") {
  const Variant variant = variants()[0];
  const auto model = variant.open(1, "");
  const auto vocab = static_cast<size_t>(variant.config.vocab_size);
  const std::vector<float> one = logits_of(*model, {5, 7, 5, 9}), other = logits_of(*model, {5, 8, 5, 9});
  auto row = [&](const std::vector<float>& logits, size_t i) { return std::span(logits).subspan(i * vocab, vocab); };
  CHECK(same(row(one, 0), row(other, 0)));        // nothing looks ahead
  CHECK_FALSE(same(row(one, 0), row(one, 2)));
  CHECK_FALSE(same(row(one, 3), row(other, 3)));
}

TEST_CASE("forward: logits only of the rows that want them; a pass without any still fills the cache") {
  const Variant variant = variants()[4];
  const auto model = variant.open(1, "");
  const auto vocab = static_cast<size_t>(variant.config.vocab_size);
  const std::vector<int32_t> tokens = random_tokens(variant.config, 9);
  const std::vector<float> expected = logits_of(*model, tokens);
  Forward forward(model->weights(), model->kv_layout().type, model->kernels(), model->pool());
  KvCache cache(model->kv_layout());
  cache.reserve(9);
  std::vector<Row> rows;
  for (size_t i = 0; i + 1 < tokens.size(); ++i) rows.push_back({tokens[i], static_cast<int32_t>(i), cache.table(), false});
  forward.run(rows, nullptr);
  forward.run({}, nullptr);
  const Row last{tokens.back(), static_cast<int32_t>(tokens.size() - 1), cache.table(), true};
  std::vector<float> logits(vocab);
  forward.run({&last, 1}, logits.data());
  CHECK(same(logits, std::span(expected).last(vocab)));
}

TEST_CASE("forward: an observer sees every named intermediate, and the logits as they are given") {
  const Variant variant = variants()[0];
  const auto model = variant.open(2, "");
  Forward forward(model->weights(), model->kv_layout().type, model->kernels(), model->pool());
  KvCache cache(model->kv_layout());
  cache.reserve(9);
  const std::vector<Row> rows = {{3, 0, cache.table(), false}, {4, 1, cache.table(), true}};
  std::vector<float> logits(static_cast<size_t>(variant.config.vocab_size)), seen;
  std::map<std::string, int> count;
  forward.run(rows, logits.data(), [&](const Intermediate& i) {
    ++count[i.name];
    if (std::string(i.name) == "logits") seen.assign(i.data, i.data + i.cols);
    if (std::string(i.name) == "x") CHECK(i.rows * i.cols == 2 * 64);
  });
  CHECK(same(seen, logits));
  for (const std::string name : {"x", "att_norm", "q", "k", "v", "att", "att_out", "x_mid", "ffn_norm", "gate", "ffn_out"}) {
    CAPTURE(name);
    CHECK(count[name] == 2);  // layers
  }
  CHECK(count["final_norm"] == 1);
  CHECK(count["logits"] == 1);
}

TEST_CASE("forward: block by block as in one go") {
  for (const Variant& variant : variants()) {
    CAPTURE(variant.name);
    const std::vector<int32_t> tokens = random_tokens(variant.config, 9);
    for (int threads : {1, 2}) {
      const auto model = variant.open(threads, "");
      const auto vocab = static_cast<size_t>(variant.config.vocab_size);
      const std::vector<float> expected = logits_of(*model, tokens, 9);
      Forward forward(model->weights(), model->kv_layout().type, model->kernels(), model->pool());
      KvCache cache(model->kv_layout());
      cache.reserve(tokens.size());
      std::vector<Row> rows;
      for (size_t i = 0; i < tokens.size(); ++i) rows.push_back({tokens[i], static_cast<int32_t>(i), cache.table(), true});
      std::vector<float> logits(tokens.size() * vocab);
      forward.begin(rows, logits.data());
      size_t pieces = 1;
      while (!forward.proceed(ThreadPool::Clock::now())) ++pieces;
      CHECK(pieces > 40);  // every stage of two layers, and every block of a stage
      CHECK(same(logits, expected));
      CHECK(forward.proceed(ThreadPool::Clock::now()));  // nothing is left
    }
  }
}
