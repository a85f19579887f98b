// Tokens drawn on the emulated device are those of sample/sampler.cc: every parameter by itself and mixed, vocabularies
// of all sizes, many seeds, logits of every shape.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cuda/allocators.h"
#include "cuda/orders.h"
#include "cuda/slots.h"
#include "io/expect_error.h"
#include "kernels/inputs.h"

using namespace tinyzh;
using namespace tinyzh::testing;
using namespace tinyzh::cuda;

namespace {

// Slots of a small device, which draw from the same logits as samplers on the host.
class Table {
 public:
  explicit Table(size_t vocab_size) : vocab(vocab_size), slots(8, vocab_size) {}

  // One row of logits for each slot (-1: none).
  std::vector<Drawn> draw(const std::vector<int32_t>& which, const std::vector<float>& logits) {
    std::vector<Drawn> drawn(which.size(), Drawn{-77, 0});
    const auto rows = static_cast<unsigned>(which.size());
    const auto there = [&]<class T>(const std::vector<T>& values) {
      AlignedBuffer<T> buffer(values.size(), device_memory(), Fill::nothing);
      queue.upload(buffer.data(), values.data(), values.size() * sizeof(T));
      return buffer;
    };
    auto slots_of_rows = there(which);
    auto logits_there = there(logits);
    auto drawn_there = there(drawn);
    AlignedBuffer<uint64_t> scratch(rows * draw_scratch(static_cast<unsigned>(vocab)), device_memory(), Fill::nothing);
    cuda::draw(queue, slots.data(), slots_of_rows.data(), logits_there.data(), drawn_there.data(), scratch.data(),
               static_cast<unsigned>(vocab), rows);
    queue.download(drawn.data(), drawn_there.data(), rows * sizeof(Drawn));
    return drawn;
  }
  Slot slot(int32_t index) {
    Slot found;
    queue.download(&found, slots.data() + index, sizeof found);
    return found;
  }

  const size_t vocab;
  const Queue queue;
  Slots slots;
};

// Logits as models have them, and as they do not: all equal, in steps, tiny differences, very sure, spread.
std::vector<float> logits_of_kind(std::mt19937& random, size_t n, int kind) {
  std::vector<float> logits(n);
  std::normal_distribution<float> normal(0, 2.5f);
  for (float& x : logits) switch (kind) {
      case 0: x = normal(random); break;
      case 1: x = 1.25f; break;
      case 2: x = static_cast<float>(random() % 4); break;
      case 3: x = 1e-7f * normal(random); break;
      case 4: x = 40.0f * normal(random); break;
      default: x = (random() % 2 ? 0.0f : -0.0f) - static_cast<float>(random() % 3 == 0 ? random() % 200 : 0); break;
    }
  return logits;
}

std::vector<SamplingParams> settings() {
  std::vector<SamplingParams> all;
  const auto add = [&](const std::function<void(SamplingParams&)>& change) {
    SamplingParams params;
    params.temperature = 1;
    params.top_p = 1;
    change(params);
    all.push_back(params);
  };
  add([](SamplingParams&) {});
  for (float temperature : {0.0f, 1e-39f, 0.01f, 0.9f, 3.0f, 1000.0f}) add([=](SamplingParams& p) { p.temperature = temperature; });
  for (float top_p : {1e-30f, 0.001f, 0.5f, 0.9f, 0.999f}) add([=](SamplingParams& p) { p.top_p = top_p; });
  for (int32_t top_k : {1, 2, 40, 511, 100000}) add([=](SamplingParams& p) { p.top_k = top_k; });
  for (float min_p : {1e-6f, 0.05f, 0.5f, 1.0f}) add([=](SamplingParams& p) { p.min_p = min_p; });
  add([](SamplingParams& p) { p.repetition_penalty = 1.3f; });
  add([](SamplingParams& p) { p.repetition_penalty = 0.7f, p.temperature = 0; });
  add([](SamplingParams& p) { p.presence_penalty = 0.5f; });
  add([](SamplingParams& p) { p.frequency_penalty = -0.7f, p.top_p = 0.8f; });
  add([](SamplingParams& p) { p.top_k = 20, p.top_p = 0.7f; });
  add([](SamplingParams& p) { p.top_k = 5, p.min_p = 0.02f, p.temperature = 1.7f; });
  add([](SamplingParams& p) {
    p.top_k = 30, p.min_p = 0.01f, p.top_p = 0.95f, p.temperature = 0.8f;
    p.repetition_penalty = 1.1f, p.presence_penalty = 0.2f, p.frequency_penalty = 0.1f;
  });
  return all;
}

std::string words(const SamplingParams& p) {
  std::string text;
  for (float x : {p.temperature, p.top_p, p.min_p, static_cast<float>(p.top_k), p.repetition_penalty, p.presence_penalty, p.frequency_penalty})
    text += std::to_string(x) + " ";
  return text;
}

}  // namespace

TEST_CASE("cuda sampling: the tokens of the sampler") {
  std::mt19937 random(1);
  size_t draws = 0;
  for (size_t vocab : {1, 2, 3, 31, 512, 1025, 3000}) {
    CAPTURE(vocab);
    Table table(vocab);
    for (const SamplingParams& setting : settings())
      for (int kind = 0; kind < 6; ++kind) {
        CAPTURE(words(setting));
        CAPTURE(kind);
        const size_t rows = vocab > 2000 ? 1 : 3;
        std::vector<int32_t> which;
        std::vector<Sampler> samplers;
        for (size_t i = 0; i < rows; ++i) {
          SamplingParams params = setting;
          params.seed = random();
          std::vector<int32_t> prompt;
          for (size_t t = 0; t < 4; ++t) prompt.push_back(static_cast<int32_t>(random() % vocab));
          samplers.emplace_back(params, kScalarKernels, static_cast<int32_t>(vocab), prompt);
          which.push_back(table.slots.open(table.queue, {params, prompt, {}, {}}));
        }
        for (int step = 0; step < 2; ++step) {
          std::vector<float> logits;
          for (size_t i = 0; i < rows; ++i) {
            const std::vector<float> row = logits_of_kind(random, vocab, kind);
            logits.insert(logits.end(), row.begin(), row.end());
          }
          run_in_order(random());
          const std::vector<Drawn> found = table.draw(which, logits);
          for (size_t i = 0; i < rows; ++i) {
            const int32_t expected = samplers[i].sample(std::span(logits).subspan(i * vocab, vocab), {}).token;
            REQUIRE(found[i].token == expected);
            ++draws;
          }
        }
        for (int32_t slot : which) table.slots.close(slot);
      }
  }
  run_in_order(0);
  CHECK(draws > 3000);
}

TEST_CASE("cuda sampling: end tokens are banned for a while, and a sequence goes on where it was") {
  std::mt19937 random(2);
  const size_t vocab = 40;
  for (float temperature : {0.0f, 1.5f}) {
    Table table(vocab);
    SamplingParams params;
    params.temperature = temperature;
    params.repetition_penalty = 1.2f;
    params.frequency_penalty = 0.3f;
    params.seed = 99;
    const std::vector<int32_t> prompt = {1, 7}, banned = {3, 5, 9};
    Sampler sampler(params, kScalarKernels, vocab, prompt);
    std::vector<int32_t> told;
    int32_t slot = table.slots.open(table.queue, {params, prompt, told, banned, 6});
    int ended = 0;
    for (int step = 0; step < 40; ++step) {
      if (step % 7 == 3) {  // it gave way, and comes back
        table.slots.close(slot);
        const int32_t other = table.slots.open(table.queue, {params, {}, {}, {}});
        slot = table.slots.open(table.queue, {params, prompt, told, banned, 6});
        table.slots.close(other);
      }
      std::vector<float> logits = logits_of_kind(random, vocab, 0);
      for (int32_t token : banned) logits[static_cast<size_t>(token)] += 3;  // likely, if they may
      const Drawn found = table.draw({slot}, logits)[0];
      REQUIRE(found.token == sampler.sample(logits, step < 6 ? std::span<const int32_t>(banned) : std::span<const int32_t>()).token);
      ended += std::count(banned.begin(), banned.end(), found.token) > 0;
      if (step < 6) CHECK(ended == 0);
      told.push_back(found.token);
    }
    CHECK(ended > 3);
  }
}

TEST_CASE("cuda sampling: rows without a slot are left alone") {
  Table table(31);
  const int32_t slot = table.slots.open(table.queue, {SamplingParams(), {}, {}, {}});
  const std::vector<Drawn> found = table.draw({-1, slot, -1}, std::vector<float>(93, 1.0f));
  CHECK(found[0].token == -77);
  CHECK(found[1].token >= 0);
  CHECK(found[2].token == -77);
  CHECK(table.slot(slot).last == found[1].token);
  CHECK(table.slot(slot).drawn == 1);
}

TEST_CASE("cuda sampling: logits that are no numbers, and nothing left to draw") {
  Table table(300);
  SamplingParams params;
  std::vector<int32_t> all;
  for (int32_t i = 0; i < 300; ++i) all.push_back(i);
  const int32_t slot = table.slots.open(table.queue, {params, {}, {}, {}}), banned = table.slots.open(table.queue, {params, {}, {}, all, 5});
  for (float broken : {INFINITY, -INFINITY, NAN}) {
    std::vector<float> logits(300, 0.5f);
    logits[297] = NAN;
    logits[131] = broken;
    const Drawn found = table.draw({slot}, logits)[0];
    CHECK(found.token == ~131);
    CHECK(same(found.value, broken));
    CHECK(table.slot(slot).last == 0);  // a pass that runs ahead reads it
    expect_error(Code::generation, {"logit of token 131 is"}, [&] { fail_for_logit(static_cast<size_t>(~found.token), found.value); });
  }
  CHECK(table.draw({banned}, std::vector<float>(300, 0.5f))[0].token == ~300);
}

TEST_CASE("cuda sampling: many candidates are sorted in the device's memory") {
  std::mt19937 random(3);
  const size_t vocab = 9000;
  Table table(vocab);
  for (bool flat : {false, true}) {
    SamplingParams params;
    params.temperature = 2;
    params.top_p = 0.9999f;
    params.top_k = flat ? 5000 : 0;
    params.seed = 5;
    Sampler sampler(params, kScalarKernels, static_cast<int32_t>(vocab), {});
    const int32_t slot = table.slots.open(table.queue, {params, {}, {}, {}});
    for (int step = 0; step < 3; ++step) {
      std::vector<float> logits = logits_of_kind(random, vocab, flat ? 3 : 0);
      const Drawn found = table.draw({slot}, logits)[0];
      CHECK(found.token == sampler.sample(logits, {}).token);
    }
  }
}
