// Many requests at once: each gets what it gets alone, whatever the others do and however short memory is.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "engine/small_engine.h"
#include "engine/told.h"
#include "io/expect_error.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

size_t page_bytes() { return small_model()->kv_layout().block_bytes(); }

// Requests of all kinds, many of them with a beginning in common.
std::vector<RequestOptions> assorted(uint32_t seed, size_t n) {
  std::mt19937 random(seed);
  std::vector<RequestOptions> all;
  for (size_t i = 0; i < n; ++i) {
    RequestOptions options = endless(random() % 1000 + 1);
    const size_t length = random() % 3 ? random() % 50 + 1 : random() % 6 + 1;
    const size_t differs_at = random() % 60;
    options.prompt.clear();
    for (size_t t = 0; t < length; ++t)
      options.prompt.push_back(static_cast<int32_t>((t * 7 + 1 + (t >= differs_at ? i : 0)) % 24));
    options.sampling.logprobs = 0;
    options.max_new_tokens = static_cast<int64_t>(random() % 40);
    if (random() % 4 == 0) {
      options.overflow = Overflow::shift;
      options.max_new_tokens = static_cast<int64_t>(random() % 120);
    }
    if (random() % 5 == 0 && length > 1) options.score_from = random() % (length - 1) + 1;
    if (random() % 3 == 0) options.sampling.repetition_penalty = 1.2f;
    options.priority = static_cast<int32_t>(random() % 3);
    all.push_back(std::move(options));
  }
  return all;
}

}  // namespace

TEST_CASE("many: each is what it is alone, whoever comes, leaves or gives way") {
  uint64_t preemptions = 0, reused = 0;
  struct Kind {
    DType dtype;
    KvType kv;
  };
  for (const auto& [dtype, kv] : {Kind{DType::float32, KvType::float32}, Kind{DType::int8, KvType::float16}, Kind{DType::int4, KvType::int8}})
    for (int threads : {1, 2}) {
      const auto open = [dtype = dtype, kv = kv](int n) {
        return std::make_shared<Model>(make_checkpoint(kSmallConfig, Format::v0, 0, 7).bytes, ModelOptions{dtype, n, "", kv});
      };
      const std::vector<RequestOptions> asked = assorted(static_cast<uint32_t>(threads) + 10 * static_cast<uint32_t>(dtype), 60);
      std::vector<Told> alone;
      for (const RequestOptions& options : asked) {
        static std::map<std::pair<DType, int>, std::shared_ptr<Model>> models;
        std::shared_ptr<Model>& model = models[{dtype, threads}];
        if (!model) model = open(threads);
        SmallEngine engine(EngineOptions{.streams = 1}, model);
        alone.push_back(told_by(*engine.submit(options)));
      }
      const size_t page = open(1)->kv_layout().block_bytes();
      for (size_t pages : {4, 7, 30}) {
        CAPTURE(pages);
        std::mt19937 random(static_cast<uint32_t>(pages));
        SmallEngine engine(EngineOptions{.streams = 1 + random() % 9, .kv_bytes = pages * page, .prompt_rows = 1 + random() % 20}, open(threads));
        const auto [requests, cancelled] = submit_and_cancel(engine, asked, random, 8, std::chrono::milliseconds(1));
        for (size_t i = 0; i < asked.size(); ++i) {
          CAPTURE(i);
          const Told told = told_by(*requests[i]);
          if (!cancelled.count(i)) {
            CHECK(told == alone[i]);
          } else {
            const size_t n = told.tokens.size();
            REQUIRE(n <= alone[i].tokens.size());
            CHECK(std::equal(told.tokens.begin(), told.tokens.end(), alone[i].tokens.begin()));
          }
        }
        const Stats stats = settled(engine);
        CHECK(stats.pages <= pages);
        CHECK(stats.pages_allocated <= pages);
        CHECK(stats.pages == stats.pages_kept);  // nobody holds any
        preemptions += stats.preemptions;
        reused += stats.reused_tokens;
      }
    }
  CHECK(preemptions > 50);  // or this test shows little
  CHECK(reused > 500);
}

TEST_CASE("many: a shifted story is what its windows give, computed afresh for every token") {
  const auto model = small_model();
  SmallEngine engine;
  RequestOptions options = infinite(5);
  options.max_new_tokens = 150;
  options.prompt = {1, 5, 9};
  const std::vector<int32_t> found = told_by(*engine.submit(options)).tokens;

  Sampler sampler(options.sampling, model->kernels(), 24, options.prompt);
  std::vector<int32_t> all = options.prompt;
  Pages pages(64, 1 << 20);
  for (int i = 0; i < 150; ++i) {
    const Window window(all, 64, Overflow::shift, pages);
    SmallEngine fresh(10, model);
    std::vector<float> last;
    fresh.evaluate(window.tokens(), [&](size_t, std::span<const float> logits) { last.assign(logits.end() - 24, logits.end()); });
    all.push_back(sampler.sample(last, {}).token);
    REQUIRE(found[static_cast<size_t>(i)] == all.back());
  }
}

TEST_CASE("many: a prompt in common is computed once, also when all come at the same time") {
  SmallEngine engine;
  std::vector<std::shared_ptr<Request>> requests;
  {
    Pause pause(engine);
    for (int32_t i = 0; i < 10; ++i) {
      RequestOptions options = endless(static_cast<uint64_t>(i + 1));
      options.prompt.assign(40, 3);
      options.prompt.push_back(i);
      options.max_new_tokens = 2;
      requests.push_back(engine.submit(options));
    }
  }
  for (const auto& request : requests) CHECK(wait_for_end(*request) == FinishReason::length);
  const Stats stats = settled(engine);
  CHECK(stats.reused_tokens >= 9 * 32);
  CHECK(stats.prompt_tokens <= 41 + 9 * 9);
  CHECK(stats.requests == 10);
}

TEST_CASE("many: a long prompt does not hold up who draws") {
  const Config config{16, 24, 1, 2, 2, 24, 2000, true};
  SmallEngine engine(EngineOptions{.prompt_rows = 16}, std::make_shared<Model>(make_checkpoint(config, Format::v0).bytes, ModelOptions{{}, 1, ""}));
  const auto talker = engine.submit(infinite(1));
  REQUIRE(soon([&] { return talker->tokens().size() > 2; }));
  RequestOptions slow = endless(2);
  slow.prompt.assign(1600, 5);
  slow.max_new_tokens = 1;
  size_t before = 0;
  std::shared_ptr<Request> reader;
  {
    Pause pause(engine);
    before = talker->tokens().size();
    reader = engine.submit(slow);
  }
  std::atomic<size_t> when_it_came{0};
  std::weak_ptr<Request> weak = talker;
  reader->set_waker([&] {
    if (when_it_came == 0) when_it_came = talker->tokens().size();
  });
  CHECK(wait_for_end(*reader) == FinishReason::length);
  talker->cancel();
  reader->set_waker({});
  CHECK(talker->tokens().size() - before >= 95);  // a token of the talker for 16 of the prompt
}

TEST_CASE("many: the more important one goes first, and who must give way comes back") {
  SmallEngine engine(EngineOptions{.streams = 1});
  const auto low = engine.submit(infinite(1));
  REQUIRE(soon([&] { return low->tokens().size() > 2; }));
  std::vector<std::shared_ptr<Request>> high;
  std::vector<int32_t> order;
  std::mutex mutex;
  {
    Pause pause(engine);
    for (int32_t i = 0; i < 3; ++i) {
      RequestOptions options = endless(static_cast<uint64_t>(i));
      options.priority = i + 1;
      high.push_back(engine.submit(options));
      high.back()->set_waker([&, i, request = high.back().get()] {
        const std::scoped_lock lock(mutex);
        if (request->finish_reason() == FinishReason::length) order.push_back(i);
      });
    }
  }
  for (const auto& request : high) wait_for_end(*request);
  const size_t after = low->tokens().size();
  CHECK(soon([&] { return low->tokens().size() > after; }));
  low->cancel();
  for (const auto& request : high) request->set_waker({});
  CHECK(order == std::vector<int32_t>{2, 1, 0});
  CHECK(settled(engine).preemptions == 1);
}

TEST_CASE("many: the more important one does not wait for pages that a less important one computes") {
  const Config config{16, 24, 1, 2, 2, 24, 1000, true};
  SmallEngine engine(EngineOptions{.prompt_rows = 4, .own_thread = false},
                     std::make_shared<Model>(make_checkpoint(config, Format::v0).bytes, ModelOptions{{}, 1, ""}));
  const auto step_until = [&](const auto& condition) {
    for (size_t steps = 0; !condition(); ++steps) {
      REQUIRE(steps < 1'000'000);
      engine.step(Engine::Clock::now());
    }
  };
  const auto talker = engine.submit(infinite(1));
  step_until([&] { return talker->tokens().size() > 2; });
  const auto ask = [&](int32_t token, int32_t priority) {
    RequestOptions options = endless();
    options.prompt.assign(600, token);
    options.priority = priority;
    options.max_new_tokens = 1;
    return engine.submit(options);
  };
  const auto low = ask(5, 0);
  step_until([&] { return engine.stats().running == 2; });
  const auto middle = ask(6, 1), high = ask(5, 2);
  const auto over = [](const auto& request) { return request->finish_reason() != FinishReason::none; };
  step_until([&] { return over(high); });
  CHECK(middle->tokens().empty());
  CHECK_FALSE(over(low));
  step_until([&] { return over(middle) && over(low); });
  for (const auto& request : {low, middle, high}) CHECK(request->finish_reason() == FinishReason::length);
}

TEST_CASE("many: what can never fit is refused with the numbers") {
  SmallEngine engine(EngineOptions{.kv_bytes = 2 * page_bytes()});
  RequestOptions options = endless();
  options.prompt.assign(10, 1);
  expect_error(Code::context_full, {"64 positions", "10 of the prompt", "kv_cache"}, [&] { engine.submit(options); });
  options.max_new_tokens = 22;
  CHECK(told_by(*engine.submit(options)).tokens.size() == 22);
  options.max_new_tokens = 23;
  expect_error(Code::context_full, {"33 positions"}, [&] { engine.submit(options); });
  expect_error(Code::invalid_argument, {"100 bytes", "one page"}, [] { SmallEngine(EngineOptions{.kv_bytes = 100}); });
  const bool on_cpu = small_model()->device() == Device::cpu;
  expect_error(Code::invalid_argument, {"streams is 0", on_cpu ? "1 to 256 on device cpu" : "1 to 1024 on device cuda"},
               [] { SmallEngine(EngineOptions{.streams = 0}); });
  expect_error(Code::invalid_argument, {on_cpu ? "streams is 257" : "streams is 1025"},
               [&] { SmallEngine(EngineOptions{.streams = on_cpu ? size_t{257} : 1025}); });
  options.prompt.assign(32, 1);
  options.max_new_tokens = -1;
  options.score_from = 1;  // nothing is drawn: the prompt is all that it comes to
  CHECK(told_by(*engine.submit(options)).scores.size() == 31);
  options.prompt.assign(33, 1);
  expect_error(Code::context_full, {"33 positions"}, [&] { engine.submit(options); });
  options.prompt.assign(65, 1);
  options.overflow = Overflow::shift;  // of a text that is scored nothing is left out
  expect_error(Code::context_full, {"65 tokens"}, [&] { engine.submit(options); });
  options.prompt.assign(10, 1);
  options.score_from = 10;
  expect_error(Code::invalid_argument, {"score_from is 10", "10 tokens"}, [&] { engine.submit(options); });
}

TEST_CASE("many: cancelling gives the pages back within a step") {
  SmallEngine engine;
  std::vector<std::shared_ptr<Request>> requests;
  for (uint64_t seed = 1; seed <= 8; ++seed) requests.push_back(engine.submit(infinite(seed)));
  REQUIRE(soon([&] { return engine.stats().running == 8; }));
  const uint64_t steps = engine.stats().steps;
  for (const auto& request : requests) request->cancel();
  const Stats stats = settled(engine);
  CHECK(stats.steps <= steps + 12);  // eight were under way while they were cancelled one by one
  CHECK(stats.pages == stats.pages_kept);
}

TEST_CASE("many: scores are the log-probabilities of the text's tokens, from where they are asked") {
  SmallEngine engine;
  RequestOptions options;
  for (int32_t i = 0; i < 64; ++i) options.prompt.push_back(i * 5 % 24);
  std::vector<float> expected, logprobs(24);
  engine.evaluate(options.prompt, [&](size_t first, std::span<const float> logits) {
    for (size_t i = 0; i < logits.size() / 24 && first + i + 1 < 64; ++i) {
      log_softmax(logits.subspan(i * 24, 24), logprobs, engine.model().kernels());
      expected.push_back(logprobs[static_cast<size_t>(options.prompt[first + i + 1])]);
    }
  });
  for (size_t from : {1, 2, 17, 40, 63, 1}) {
    options.score_from = from;
    const Told told = told_by(*engine.submit(options));
    CHECK(told.reason == FinishReason::stop);
    CHECK(told.scores == std::vector<float>(expected.begin() + static_cast<ptrdiff_t>(from) - 1, expected.end()));
  }
  CHECK(settled(engine).reused_tokens > 0);
}

TEST_CASE("many: a prompt that is only computed is there for the next one") {
  SmallEngine engine;
  RequestOptions options = endless();
  options.prompt.assign(40, 2);
  options.max_new_tokens = 0;
  const Told told = told_by(*engine.submit(options));
  CHECK(told.reason == FinishReason::length);
  CHECK(told.tokens.empty());
  options.prompt.push_back(7);
  options.max_new_tokens = 1;
  told_by(*engine.submit(options));
  CHECK(settled(engine).reused_tokens == 40);
  CHECK(settled(engine).prompt_tokens == 40);  // and the row that drew
}

TEST_CASE("many: sixteen clients submit, read, cancel, evaluate and run out of time while memory is short") {
  const std::vector<RequestOptions> asked = assorted(77, 24);
  std::vector<Told> alone;
  {
    SmallEngine engine;
    for (const RequestOptions& options : asked) alone.push_back(told_by(*engine.submit(options)));
  }
  SmallEngine engine(EngineOptions{.queue_limit = 12, .streams = 6, .kv_bytes = 5 * page_bytes(), .prompt_rows = 9});
  std::atomic<int> wrong{0}, whole{0}, early{0}, refused{0}, calls{0};
  const auto client = [&](uint32_t seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 12; ++i) {
      const size_t which = random() % asked.size();
      const unsigned what = random() % 8;
      RequestOptions options = asked[which];
      options.priority = static_cast<int32_t>(random() % 3);
      if (what == 0) options.deadline = Request::Clock::now() + std::chrono::microseconds(random() % 3000);
      std::shared_ptr<Request> request;
      while (!request) {
        try {
          request = engine.submit(options);
        } catch (const Error& error) {
          wrong += error.code() != Code::queue_full;
          ++refused;
          std::this_thread::yield();
        }
      }
      if (random() % 2) request->set_waker([&calls] { ++calls; }, random() % 2);
      if (what == 1) request->cancel();
      if (what == 2) request->wait(random() % 9, 0.001);
      if (what == 2) request->cancel();
      if (what == 3) continue;  // nobody reads it
      if (what == 4) engine.evaluate(options.prompt, [](size_t, std::span<const float>) {});
      std::string text;
      for (size_t from = 0;;) {
        const Request::Snapshot snapshot = request->wait(from, 1);
        for (const std::string& piece : snapshot.pieces) text += piece;
        from += snapshot.pieces.size();
        if (snapshot.finish != FinishReason::none) break;
      }
      const Told told = told_by(*request);
      if (told.text != text || engine.stats().pages > 5) ++wrong;
      if (told == alone[which]) {
        ++whole;
      } else {
        const std::vector<int32_t>& all = alone[which].tokens;
        const bool begins = told.tokens.size() <= all.size() && std::equal(told.tokens.begin(), told.tokens.end(), all.begin());
        const bool asked_for = (told.reason == FinishReason::timeout && what == 0) ||
                               (told.reason == FinishReason::cancelled && (what == 1 || what == 2));
        (begins && asked_for ? early : wrong)++;
      }
    }
  };
  std::vector<std::thread> clients;
  for (uint32_t seed = 0; seed < 16; ++seed) clients.emplace_back(client, seed);
  for (std::thread& thread : clients) thread.join();
  CHECK(wrong == 0);
  CHECK(whole > 80);
  CHECK(early > 10);
  CHECK(refused > 0);
  const Stats stats = settled(engine);
  CHECK(soon([&] { return engine.waiting() == 0; }));
  CHECK(stats.preemptions > 0);
  CHECK(engine.stats().pages == engine.stats().pages_kept);
  engine.close();
  CHECK(calls > 0);
}

TEST_CASE("many: thousands of requests leave nothing behind") {
  SmallEngine engine(EngineOptions{.queue_limit = 4000, .kv_bytes = 40 * page_bytes()});
  std::vector<std::shared_ptr<Request>> requests;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    RequestOptions options = endless(seed);
    options.max_new_tokens = 3;
    options.prompt.push_back(static_cast<int32_t>(seed % 24));
    requests.push_back(engine.submit(options));
  }
  for (const auto& request : requests) CHECK(wait_for_end(*request) == FinishReason::length);
  for (const auto& request : requests) CHECK(request->tokens().size() == 3);
  const Stats stats = settled(engine);
  CHECK(stats.requests == 3000);
  CHECK(stats.new_tokens == 9000);
  CHECK(engine.waiting() == 0);
  CHECK(stats.pages_allocated <= 40);
}

TEST_CASE("many: in steps of the caller's, a block at a time, the stories are the same") {
  const std::vector<RequestOptions> asked = assorted(99, 30);
  std::vector<Told> expected;
  {
    SmallEngine engine;
    for (const RequestOptions& options : asked) expected.push_back(told_by(*engine.submit(options)));
  }
  for (int microseconds : {0, 30, 1000}) {
    SmallEngine engine(EngineOptions{.kv_bytes = 9 * page_bytes(), .own_thread = false});
    std::vector<std::shared_ptr<Request>> requests;
    for (const RequestOptions& options : asked) requests.push_back(engine.submit(options));
    size_t calls = 0, left = asked.size();
    while (left > 0) {
      left = engine.step(Engine::Clock::now() + std::chrono::microseconds(microseconds));
      REQUIRE(++calls < 2000000);
    }
    if (microseconds == 0) CHECK(calls > 1000);
    for (size_t i = 0; i < asked.size(); ++i) CHECK(told_by(*requests[i]) == expected[i]);
    CHECK(engine.step(Engine::Clock::now()) == 0);

    const auto cut = engine.submit(infinite());
    for (int i = 0; i < 50; ++i) engine.step(Engine::Clock::now());
    cut->cancel();
    while (engine.step(Engine::Clock::now()) > 0) {
    }
    CHECK(engine.stats().running == 0);
    const auto last = engine.submit(infinite());
    for (int i = 0; i < 50; ++i) CHECK(engine.step(Engine::Clock::now()) == 1);
    engine.close();  // in the middle of a step
    CHECK(last->finish_reason() == FinishReason::cancelled);
    CHECK(engine.step(Engine::Clock::now()) == 0);
    const std::vector<int32_t> ids = {1};
    expect_error(Code::invalid_argument, {"no thread"}, [&] { engine.evaluate(ids, [](size_t, std::span<const float>) {}); });
  }
  SmallEngine threaded;
  expect_error(Code::invalid_argument, {"thread of its own"}, [&] { threaded.step(Engine::Clock::now()); });
}
