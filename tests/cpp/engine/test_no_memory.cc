// The system has no memory left, at any moment of the engine's work: every request still comes to an end, no page is
// lost, and the engine goes on serving.
//
// Not under a sanitizer: those have operators new of their own.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif
#if !defined(SANITIZED)

#include <doctest/doctest.h>

#include <cstdlib>
#include <limits>
#include <map>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "capi/handles.h"
#include "capi/tinyzh.h"
#include "engine/small_engine.h"
#include "io/make_checkpoint.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

constexpr size_t kEnough = std::numeric_limits<size_t>::max();
thread_local size_t allocations_left = kEnough;   // of this thread, before some fail
thread_local size_t failures_left = 0;            // that many; then there is memory again
thread_local bool failed = false;

void* take(size_t size, size_t alignment) {
  if (allocations_left != kEnough) {
    if (allocations_left > 0) {
      --allocations_left;
    } else {
      failed = true;
      if (--failures_left == 0) allocations_left = kEnough;
      throw std::bad_alloc();
    }
  }
  void* place = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (!place) throw std::bad_alloc();
  return place;
}

}  // namespace

[[gnu::noinline]] void* operator new(size_t size) { return take(size, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(size_t size, std::align_val_t alignment) { return take(size, static_cast<size_t>(alignment)); }
[[gnu::noinline]] void operator delete(void* place) noexcept { std::free(place); }
[[gnu::noinline]] void operator delete(void* place, size_t) noexcept { std::free(place); }
[[gnu::noinline]] void operator delete(void* place, std::align_val_t) noexcept { std::free(place); }
[[gnu::noinline]] void operator delete(void* place, size_t, std::align_val_t) noexcept { std::free(place); }

namespace {

std::vector<RequestOptions> crowd() {
  std::vector<RequestOptions> all;
  for (int32_t i = 0; i < 5; ++i) {
    RequestOptions options = endless(static_cast<uint64_t>(i + 1));
    options.prompt.assign(20, 3);
    options.prompt.push_back(i);
    options.max_new_tokens = 12;
    options.stop = {"never there"};
    options.bad_words = {"ab"};
    options.priority = i % 2;
    if (i == 3) options.score_from = 2;
    all.push_back(options);
  }
  all[4].overflow = Overflow::shift;
  all[4].max_new_tokens = 60;
  return all;
}

// Memory is short within its calls, and nowhere else.
class Scarcity {
 public:
  Scarcity(size_t moment, size_t failures) : left_(moment) { failures_left = failures; }
  template <class F>
  auto operator()(const F& f) {
    allocations_left = left_;
    const auto result = f();
    left_ = std::exchange(allocations_left, kEnough);
    return result;
  }

 private:
  size_t left_;
};

std::vector<int32_t> tokens_alone(tinyzh_model& model, const std::vector<int32_t>& ids, const tinyzh_sampling& sampling) {
  Engine engine(model.model, Vocabulary(), EngineOptions{});
  RequestOptions options;
  options.prompt = ids;
  options.sampling.temperature = sampling.temperature;
  options.sampling.top_p = sampling.top_p;
  options.sampling.seed = sampling.seed;
  options.max_new_tokens = 20;
  options.end_tokens = {1, 2};
  const auto request = engine.submit(options);
  wait_for_end(*request);
  return request->tokens();
}

// On the engine's thread.
template <class Action>
void there(Engine& engine, const Action& action) {
  const std::vector<int32_t> ids = {1};
  for (;;) {
    try {
      return engine.evaluate(ids, [&](size_t, std::span<const float>) { action(); });
    } catch (const std::bad_alloc&) {  // of the pass before; the next time there is memory
    }
  }
}

}  // namespace

TEST_CASE("no memory: whichever allocation of the engine fails, requests end, pages stay, and it serves on") {
  const auto model = small_model();
  const size_t page = model->kv_layout().block_bytes();
  std::vector<std::vector<int32_t>> expected;
  {
    SmallEngine engine(EngineOptions{}, model);
    for (const RequestOptions& options : crowd()) {
      const auto request = engine.submit(options);
      wait_for_end(*request);
      expected.push_back(request->tokens());
    }
  }
  size_t errors = 0, moments = 0;
  bool more = true;
  for (size_t moment = 0; more; moment += 1 + moment / 40) {
    CAPTURE(moment);
    ++moments;
    SmallEngine engine(EngineOptions{.streams = 3, .kv_bytes = 5 * page, .prompt_rows = 7}, model);
    std::vector<std::shared_ptr<Request>> requests;
    there(engine, [&] {
      for (const RequestOptions& options : crowd()) {
        requests.push_back(engine.submit(options));
        requests.back()->set_waker([held = std::make_shared<int>(0), a = size_t{1}, b = size_t{2}] {
          const std::vector<size_t> word = {a, b};  // a waker takes memory too
          *held += static_cast<int>(word.size());
        });
      }
      engine.submit(crowd().back())->cancel();
      allocations_left = moment;
      failures_left = 1 + moment % 3;
    });
    for (size_t i = 0; i < requests.size(); ++i) {
      const FinishReason reason = wait_for_end(*requests[i]);
      REQUIRE(reason != FinishReason::none);
      errors += reason == FinishReason::error;
      if (reason == FinishReason::length) CHECK(requests[i]->tokens() == expected[i]);
    }
    there(engine, [&] {
      more = failed;
      failed = false;
      allocations_left = kEnough;
    });
    REQUIRE(soon([&] { return engine.stats().running == 0 && engine.stats().waiting == 0; }));
    CHECK(engine.waiting() == 0);
    CHECK(engine.stats().pages == engine.stats().pages_kept);
    CHECK(engine.stats().pages <= 5);
    for (size_t i = 0; i < requests.size(); ++i) {  // each of them needs nearly all pages: none is lost
      const auto again = engine.submit(crowd()[i]);
      CHECK(wait_for_end(*again) != FinishReason::error);
      CHECK(again->tokens() == expected[i]);
    }
  }
  CHECK(moments > 50);
  CHECK(errors > moments);
}

TEST_CASE("no memory: whichever allocation fails, calls of the C library return a code, and no event is lost") {
  const std::vector<std::byte> bytes = make_checkpoint(kSmallConfig, Format::v0, 0, 7).bytes;
  tinyzh_sampling sampling = tinyzh_sampling_default();
  sampling.temperature = 2.5f;
  const std::vector<int32_t> ids = {1, 5};
  std::vector<int32_t> expected;
  std::map<std::string, size_t> refused;
  bool more = true;
  for (size_t moment = 0; more; moment += 1 + moment / 300) {
    CAPTURE(moment);
    Scarcity scarce(moment, 1 + moment % 3);
    tinyzh_error error;
    const auto call = [&](const char* name, const auto& function) {  // once it fails, a second time, or a third
      int32_t code;
      while ((code = scarce(function)) == TINYZH_OUT_OF_MEMORY) ++refused[name];
      CAPTURE(std::string(error.message));
      REQUIRE(code == TINYZH_OK);
    };
    tinyzh_model* model;
    tinyzh_model_options options = tinyzh_model_options_default();
    options.threads = 1;
    call("open", [&] { return tinyzh_model_open_memory(bytes.data(), bytes.size(), &options, &model, &error); });
    tinyzh_engine_options engine_options = tinyzh_engine_options_default();
    engine_options.own_thread = 0;
    tinyzh_engine* engine;
    call("create", [&] { return tinyzh_engine_create(model, nullptr, &engine_options, &engine, &error); });
    tinyzh_session* session;
    call("session", [&] { return tinyzh_session_create(engine, &session, &error); });
    tinyzh_request request = tinyzh_request_default();
    request.ids = ids.data();
    request.id_count = ids.size();
    request.sampling = &sampling;
    request.token_events = 1;
    request.max_new_tokens = 20;
    std::map<uint64_t, std::vector<int32_t>> tokens;
    std::map<uint64_t, int32_t> ends;
    uint64_t id;
    for (int i = 0; i < 3; ++i) {
      request.session = i == 0 ? session : nullptr;
      call("submit", [&] { return tinyzh_engine_submit(engine, &request, &id, &error); });
      ends[id] = 0;
    }
    const auto poll = [&] {
      tinyzh_event event;
      while (scarce([&] { return tinyzh_engine_poll(engine, &event); })) {
        if (event.type == TINYZH_EVENT_TOKEN) tokens[event.request].push_back(event.token);
        if (event.type < TINYZH_EVENT_FINISHED) continue;
        CHECK(std::exchange(ends[event.request], event.type) == 0);
        if (event.type != TINYZH_EVENT_FAILED) continue;
        CHECK(event.code == TINYZH_OUT_OF_MEMORY);
        ++refused["event"];
      }
    };
    size_t rounds = 0;
    while (scarce([&] { return tinyzh_engine_step(engine, 0); }) > 0) {
      REQUIRE(++rounds < 100000);
      poll();
    }
    for (int i = 0; i < 4; ++i) poll();  // what one had no memory for comes with the next
    more = std::exchange(failed, false);
    CHECK(ends.size() == 3);
    if (expected.empty()) expected = tokens_alone(*model, ids, sampling);
    for (const auto& [which, type] : ends) {
      CHECK(type != 0);
      if (type == TINYZH_EVENT_FINISHED) CHECK(tokens[which] == expected);
    }
    CHECK(tinyzh_engine_get_stats(engine).running == 0);
    tinyzh_session_destroy(session);
    tinyzh_engine_destroy(engine);
    tinyzh_model_close(model);
  }
  for (const char* name : {"open", "create", "session", "submit", "event"}) {
    CAPTURE(std::string(name));
    CHECK(refused[name] > 0);
  }
}

TEST_CASE("no memory: a request that cannot be submitted takes no place in the queue") {
  SmallEngine engine(3);
  Pause pause(engine);
  RequestOptions options = endless();
  size_t tried = 0;
  for (size_t moment = 0; tried == moment; ++moment) {
    RequestOptions copy = options;
    allocations_left = moment;
    failures_left = 1;
    try {
      engine.submit(std::move(copy))->cancel();
    } catch (const std::bad_alloc&) {
      ++tried;
    }
    allocations_left = kEnough;
    failed = false;
    CHECK(engine.waiting() == 0);
  }
  CHECK(tried > 1);
}

#endif  // !SANITIZED
