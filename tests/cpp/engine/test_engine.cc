#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "engine/small_engine.h"
#include "io/expect_error.h"
#include "io/temporary_directory.h"
#include "kernels/inputs.h"
#include "model/forward.h"
#include "text/utf8.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

// The loop of Engine::generate by hand: prompt one token at a time, then sample and feed back.
std::vector<int32_t> by_hand(Model& model, const RequestOptions& options) {
  Forward forward(model.weights(), model.kv_layout().type, model.kernels(), model.pool());
  KvCache cache(model.kv_layout());
  cache.reserve(static_cast<size_t>(model.config().seq_len));
  Sampler sampler(options.sampling, model.kernels(), model.config().vocab_size, options.prompt);
  std::vector<float> logits(static_cast<size_t>(model.config().vocab_size));
  std::vector<int32_t> tokens;
  int32_t position = 0, next = options.prompt[0];
  while (position < model.config().seq_len) {
    const Row row{next, position++, cache.table(), true};
    forward.run({&row, 1}, logits.data());
    if (static_cast<size_t>(position) < options.prompt.size()) {
      next = options.prompt[static_cast<size_t>(position)];
      continue;
    }
    next = sampler.sample(logits, {}).token;
    if (std::count(options.end_tokens.begin(), options.end_tokens.end(), next)) break;
    tokens.push_back(next);
    if (static_cast<int64_t>(tokens.size()) == options.max_new_tokens) break;
  }
  return tokens;
}

std::string bytes_of(const std::vector<int32_t>& tokens) {
  const Vocabulary vocabulary = small_vocabulary();
  std::string bytes;
  for (int32_t token : tokens) bytes += vocabulary[token].bytes;
  return bytes;
}
std::string characters(const std::string& bytes) {
  Utf8Assembler assembler;
  std::string out;
  assembler.push(bytes, out);
  assembler.finish(out);
  return out;
}

struct Finished {
  std::vector<int32_t> tokens;
  std::string text;
  FinishReason reason;
};
Finished run(Engine& engine, const RequestOptions& options) {
  const auto request = engine.submit(options);
  const FinishReason reason = wait_for_end(*request);
  return {request->tokens(), text_of(*request), reason};
}

}  // namespace

TEST_CASE("engine: tokens are those of forward and sampler by hand, text is their bytes in whole characters") {
  SmallEngine engine;
  const auto model = small_model();
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    RequestOptions options = endless(seed);
    if (seed % 2) options.prompt = {1, 5, 9, 3, 11};
    if (seed % 3 == 0) options.end_tokens = {2, 3};
    if (seed % 4 == 0) options.sampling.top_p = 0.8f;
    if (seed == 5) options.sampling.repetition_penalty = 1.4f;
    if (seed == 7) options.max_new_tokens = 13;
    const Finished found = run(engine, options);
    const std::vector<int32_t> expected = by_hand(*model, options);
    CHECK(found.tokens == expected);
    CHECK(found.text == characters(bytes_of(expected)));
    const bool whole = expected.size() == 65 - options.prompt.size() || seed == 7;
    CHECK(found.reason == (whole ? FinishReason::length : FinishReason::stop));
  }
}

TEST_CASE("engine: a prompt longer than one pass") {
  const Config config{16, 24, 1, 2, 2, 12, 600, true};
  const auto model = std::make_shared<Model>(make_checkpoint(config, Format::v0).bytes, ModelOptions{{}, 2, ""});
  Engine engine(model, {}, {});
  RequestOptions options = endless();
  options.prompt.clear();
  for (int32_t i = 0; i < 590; ++i) options.prompt.push_back(i * 7 % 12);
  const auto other = std::make_shared<Model>(make_checkpoint(config, Format::v0).bytes, ModelOptions{{}, 1, ""});
  const Finished found = run(engine, options);
  CHECK(found.tokens.size() == 11);
  CHECK(found.tokens == by_hand(*other, options));
  CHECK(found.text == "");  // no vocabulary
}

TEST_CASE("engine: one seed tells one story, whatever else runs and whatever the instructions") {
  SmallEngine engine, scalar(10, small_model("scalar"));
  std::vector<std::shared_ptr<Request>> together;
  for (uint64_t seed = 1; seed <= 6; ++seed) together.push_back(engine.submit(endless(seed)));
  std::set<std::vector<int32_t>> stories;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    wait_for_end(*together[seed - 1]);
    const auto alone = scalar.submit(endless(seed));
    wait_for_end(*alone);
    CHECK(alone->tokens() == together[seed - 1]->tokens());
    CHECK(alone->last_logits_hash() == together[seed - 1]->last_logits_hash());
    CHECK((alone->last_logits_hash() != 0) == (engine.model().device() == Device::cpu));  // a GPU keeps its logits
    stories.insert(alone->tokens());
  }
  CHECK(stories.size() == 6);
}

TEST_CASE("engine: a stop string ends the text before it, even across tokens, and no part of it is given") {
  SmallEngine engine;
  int stopped = 0;
  for (const std::vector<std::string>& stop :
       std::vector<std::vector<std::string>>{{"ab"}, {"。”"}, {"好a", "cc"}, {"bab"}, {"\xEF\xBF\xBD" "a"}, {"never there"}})
    for (uint64_t seed = 1; seed <= 8; ++seed) {
      const std::string whole = run(engine, endless(seed)).text;
      size_t end = std::string::npos;
      for (const std::string& s : stop) end = std::min(end, whole.find(s));
      RequestOptions options = endless(seed);
      options.stop = stop;
      const Finished found = run(engine, options);
      CHECK(found.text == whole.substr(0, end));
      CHECK(found.reason == (end == std::string::npos ? FinishReason::length : FinishReason::stop));
      stopped += end != std::string::npos;
    }
  CHECK(stopped > 15);
}

TEST_CASE("engine: pieces are whole characters, none empty, and never taken back") {
  SmallEngine engine;
  RequestOptions options = endless(3);
  options.stop = {"abcabc", "好好"};
  const auto request = engine.submit(options);
  std::vector<std::string> pieces;
  for (;;) {
    const Request::Snapshot snapshot = request->wait(pieces.size(), 1);
    pieces.insert(pieces.end(), snapshot.pieces.begin(), snapshot.pieces.end());
    if (snapshot.finish != FinishReason::none) break;
  }
  REQUIRE(pieces.size() > 5);
  for (const std::string& piece : pieces) {
    CHECK_FALSE(piece.empty());
    CHECK(characters(piece) == piece);
  }
  CHECK(pieces == request->wait(0, 0).pieces);
  CHECK(request->wait(pieces.size() + 100, 0).pieces.empty());
}

TEST_CASE("engine: bad words never appear, however tokens cut them") {
  SmallEngine engine;
  const std::vector<std::string> words = {"ab", "好", "cb", "a a"};
  int without = 0;
  for (uint64_t seed = 1; seed <= 25; ++seed) {
    RequestOptions options = endless(seed);
    const std::string free = bytes_of(run(engine, options).tokens);
    options.bad_words = words;
    const Finished found = run(engine, options);
    CHECK(found.tokens.size() == 64);
    const std::string bytes = bytes_of(found.tokens);
    for (const std::string& word : words) {
      CHECK(bytes.find(word) == std::string::npos);
      CHECK(found.text.find(word) == std::string::npos);
      without += free.find(word) != std::string::npos;
    }
  }
  CHECK(without > 25);  // or this test shows nothing
}

TEST_CASE("engine: how many tokens at most and at least") {
  SmallEngine engine;
  for (int64_t most : {0, 1, 7}) {
    RequestOptions options = endless();
    options.max_new_tokens = most;
    const Finished found = run(engine, options);
    CHECK(found.tokens.size() == static_cast<size_t>(most));
    CHECK(found.reason == FinishReason::length);
  }
  RequestOptions options = endless();
  options.max_new_tokens = 1000;
  CHECK(run(engine, options).tokens.size() == 64);

  // The prompt fills the context: its last logits still give one token.
  options.prompt.assign(64, 5);
  CHECK(run(engine, options).tokens.size() == 1);

  int earlier = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    options = endless(seed);
    for (int32_t id = 0; id < 24; id += 2) options.end_tokens.push_back(id);
    const Finished early = run(engine, options);
    earlier += early.tokens.size() < 20;
    for (int32_t token : early.tokens) CHECK(token % 2 == 1);
    options.min_new_tokens = 20;
    const Finished late = run(engine, options);
    CHECK(late.tokens.size() >= 20);
    CHECK(late.tokens.size() < 64);
    CHECK(late.reason == FinishReason::stop);
  }
  CHECK(earlier == 10);
}

TEST_CASE("engine: the dummy prefix is dropped where a text starts, a space later is not") {
  SmallEngine engine;
  RequestOptions options = endless(2);
  options.sampling.logit_bias = {{9, 1000.0f}};  // " c"
  options.max_new_tokens = 3;
  CHECK(run(engine, options).text == " c c c");
  options.trim_first_space = true;
  CHECK(run(engine, options).text == "c c c");
}

TEST_CASE("engine: log-probabilities come with their tokens") {
  SmallEngine engine;
  RequestOptions options = endless(4);
  options.sampling.logprobs = 3;
  options.max_new_tokens = 10;
  const auto request = engine.submit(options);
  wait_for_end(*request);
  const std::vector<Sample> samples = request->samples();
  REQUIRE(samples.size() == 10);

  std::vector<int32_t> ids = options.prompt;
  for (const Sample& sample : samples) ids.push_back(sample.token);
  ids.pop_back();
  std::vector<float> logprobs(24);
  engine.evaluate(ids, [&](size_t first, std::span<const float> logits) {
    for (size_t i = 0; i < logits.size() / 24; ++i) {
      const Sample& sample = samples[first + i];
      log_softmax(logits.subspan(i * 24, 24), logprobs, engine.model().kernels());
      CHECK(sample.logprob == logprobs[static_cast<size_t>(sample.token)]);
      REQUIRE(sample.top.size() == 3);
      CHECK(sample.top[0].token == argmax(logprobs));
      CHECK(sample.top[0].logprob == logprobs[static_cast<size_t>(argmax(logprobs))]);
    }
  });
}

TEST_CASE("engine: what cannot be served is refused at once") {
  SmallEngine engine;
  auto refuse = [&](Code code, std::initializer_list<std::string> words, auto change) {
    RequestOptions options = endless();
    change(options);
    expect_error(code, words, [&] { engine.submit(options); });
  };
  refuse(Code::invalid_argument, {"no tokens", "BOS"}, [](RequestOptions& o) { o.prompt.clear(); });
  refuse(Code::invalid_argument, {"token 1 is 24", "0 to 23"}, [](RequestOptions& o) { o.prompt = {1, 24}; });
  refuse(Code::invalid_argument, {"token 0 is -1"}, [](RequestOptions& o) { o.prompt = {-1}; });
  refuse(Code::invalid_argument, {"is 99"}, [](RequestOptions& o) { o.end_tokens = {2, 99}; });
  refuse(Code::invalid_argument, {"is 24"}, [](RequestOptions& o) { o.sampling.logit_bias = {{24, 1.0f}}; });
  refuse(Code::invalid_argument, {"empty string"}, [](RequestOptions& o) { o.stop = {"a", ""}; });
  refuse(Code::invalid_argument, {"empty string"}, [](RequestOptions& o) { o.bad_words = {""}; });
  refuse(Code::context_full, {"66 tokens", "64", "2 tokens"}, [](RequestOptions& o) { o.prompt.assign(66, 1); });
  CHECK(engine.waiting() == 0);

  Engine mute(small_model(), {}, {});
  RequestOptions options = endless();
  options.bad_words = {"a"};
  expect_error(Code::invalid_argument, {"tokenizer"}, [&] { mute.submit(options); });
  const std::vector<int32_t> wrong = {1, 24}, many(65, 1);
  auto ignore = [](size_t, std::span<const float>) {};
  expect_error(Code::invalid_argument, {"token 1 is 24"}, [&] { mute.evaluate(wrong, ignore); });
  expect_error(Code::context_full, {"65", "64"}, [&] { mute.evaluate(many, ignore); });
  expect_error(Code::tokenizer, {"3", "24"}, [] {
    Engine(small_model(), Vocabulary(std::vector<tinyzh::Piece>(3)), {});
  });
}

TEST_CASE("engine: a full queue refuses at once; what was cancelled in it, or ran out of time, makes room") {
  SmallEngine engine(2);
  Pause pause(engine);
  const auto first = engine.submit(endless(2)), second = engine.submit(endless(3));
  expect_error(Code::queue_full, {"2 requests", "queue_limit"}, [&] { engine.submit(endless(4)); });
  CHECK(engine.waiting() == 2);
  first->cancel();
  RequestOptions hasty = endless(4);
  hasty.deadline = Request::Clock::now();
  const auto third = engine.submit(hasty);
  const auto fourth = engine.submit(endless(5));  // in the place of the third, which is out of time
  CHECK(third->finish_reason() == FinishReason::timeout);
  expect_error(Code::queue_full, {"2 requests"}, [&] { engine.submit(endless(6)); });
  pause.end();
  CHECK(wait_for_end(*first) == FinishReason::cancelled);
  CHECK(wait_for_end(*second) == FinishReason::length);
  CHECK(wait_for_end(*fourth) == FinishReason::length);
  CHECK(first->tokens().empty());
  CHECK(second->tokens().size() == 64);
}

TEST_CASE("engine: close ends what runs and what waits; nothing is served after it") {
  SmallEngine engine(EngineOptions{.streams = 1});
  const auto running = engine.submit(infinite()), queued = engine.submit(endless(1));
  REQUIRE(soon([&] { return running->tokens().size() > 3; }));
  CHECK(queued->timing().started < 0);
  Pause pause(engine);
  const auto arrived = engine.submit(endless(2));
  std::thread first([&] { engine.close(); }), second([&] { engine.close(); });
  CHECK(soon([&] { return arrived->finish_reason() == FinishReason::cancelled; }));
  pause.end();
  first.join();
  second.join();
  engine.close();
  CHECK(running->finish_reason() == FinishReason::cancelled);
  CHECK(queued->finish_reason() == FinishReason::cancelled);
  expect_error(Code::closed, {"closed"}, [&] { engine.submit(endless(3)); });
  const std::vector<int32_t> ids = {1};
  expect_error(Code::closed, {"closed"}, [&] { engine.evaluate(ids, [](size_t, std::span<const float>) {}); });
}

TEST_CASE("engine: ends with its requests unread, running or waiting, or without any") {
  for (int requests : {0, 1, 5}) {
    std::vector<std::shared_ptr<Request>> kept;
    {
      SmallEngine engine;
      for (int i = 0; i < requests; ++i) kept.push_back(engine.submit(endless(static_cast<uint64_t>(i))));
    }
    for (const auto& request : kept) CHECK(request->finish_reason() != FinishReason::none);
  }
}

TEST_CASE("engine: evaluate gives the same bits while generations run") {
  SmallEngine engine;
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 64; ++i) ids.push_back(i * 5 % 24);
  auto evaluate = [&] {
    std::vector<float> all(64 * 24);
    size_t seen = 0;
    engine.evaluate(ids, [&](size_t first, std::span<const float> logits) {
      std::copy(logits.begin(), logits.end(), all.begin() + static_cast<ptrdiff_t>(first * 24));
      seen += logits.size();
    });
    CHECK(seen == all.size());
    return all;
  };
  const std::vector<float> expected = evaluate();
  const std::vector<int32_t> story = run(engine, endless(1)).tokens;
  std::vector<std::shared_ptr<Request>> requests;
  for (int i = 0; i < 6; ++i) requests.push_back(engine.submit(endless(1)));
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i)
        if (!same(evaluate(), expected)) ++wrong;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  for (const auto& request : requests) {
    wait_for_end(*request);
    CHECK(request->tokens() == story);
  }
}

TEST_CASE("engine: many threads submit, read, cancel and look at once") {
  SmallEngine engine;
  std::vector<std::vector<int32_t>> stories;
  for (uint64_t seed = 0; seed < 5; ++seed) stories.push_back(run(engine, endless(seed)).tokens);
  std::atomic<int> wrong{0}, whole{0}, calls{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 15; ++i) {
        const uint64_t seed = random() % 5;
        const auto request = engine.submit(endless(seed));
        if (random() % 2) request->set_waker([&calls] { ++calls; });
        const unsigned what = random() % 4;
        if (what == 0) request->cancel();
        if (what == 1) {
          request->wait(random() % 20, 1);
          request->cancel();
        }
        if (what == 2 && random() % 2) continue;  // nobody reads it
        const FinishReason reason = wait_for_end(*request);
        const std::vector<int32_t> tokens = request->tokens();
        const std::vector<int32_t>& story = stories[seed];
        if (!std::equal(tokens.begin(), tokens.end(), story.begin())) ++wrong;
        if (reason == FinishReason::length) {
          ++whole;
          if (tokens.size() != story.size()) ++wrong;
        } else if (reason != FinishReason::cancelled || what > 1) {
          ++wrong;
        }
        (void)engine.waiting();
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(whole > 10);
  engine.close();
  CHECK(calls > 0);
}

TEST_CASE("engine: a file cut short is the request's error, and the next request's") {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  write_file(path, make_checkpoint(kSmallConfig, Format::v0).bytes);
  SmallEngine engine(10, std::make_shared<Model>(path, ModelOptions{}));
  CHECK(run(engine, endless()).reason == FinishReason::length);
  std::filesystem::resize_file(path, 5000);
  for (int i = 0; i < 2; ++i) {
    const auto request = engine.submit(endless());
    CHECK(wait_for_end(*request) == FinishReason::error);
    expect_error(Code::checkpoint, {"model.bin", "shorter"}, [&] { request->rethrow_error(); });
  }
  const std::vector<int32_t> ids = {1};
  expect_error(Code::checkpoint, {"shorter"}, [&] { engine.evaluate(ids, [](size_t, std::span<const float>) {}); });
}

TEST_CASE("engine: weights that are no numbers are an error of the request, as fp32 and as int8") {
  for (DType dtype : {DType::float32, DType::int8}) {
    MadeCheckpoint made = make_checkpoint(kSmallConfig, Format::v0);
    for (const tinyzh::testing::Piece& piece : made.pieces)
      if (piece.tensor == "rms_final") made.set(piece.begin, std::numeric_limits<float>::quiet_NaN());
    SmallEngine engine(10, std::make_shared<Model>(made.bytes, ModelOptions{dtype, 1, ""}));
    const auto request = engine.submit(endless());
    CHECK(wait_for_end(*request) == FinishReason::error);
    expect_error(Code::generation, {"not a finite number"}, [&] { request->rethrow_error(); });
    CHECK(request->tokens().empty());
  }
}

TEST_CASE("engine: a matrix that is no number has no int8 form") {
  MadeCheckpoint made = make_checkpoint(kSmallConfig, Format::v0);
  for (const tinyzh::testing::Piece& piece : made.pieces)
    if (piece.tensor == "w1" && piece.layer == 1) made.set(piece.begin, std::numeric_limits<float>::quiet_NaN());
  expect_error(Code::checkpoint, {"w1 of layer 1", "row 0"}, [&] { Model(made.bytes, ModelOptions{DType::int8, 1, ""}); });
}
