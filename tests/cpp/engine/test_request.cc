#include <doctest/doctest.h>

#include <atomic>
#include <limits>
#include <new>
#include <thread>

#include "engine/small_engine.h"
#include "io/expect_error.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

constexpr double kForEver = std::numeric_limits<double>::infinity();

// Something that a waker holds and that does `action` when it is let go.
template <class Action>
std::shared_ptr<void> at_the_end(Action action) {
  return std::shared_ptr<void>(nullptr, [action](void*) { action(); });
}

}  // namespace

TEST_CASE("request: cancelled while it waits") {
  SmallEngine engine;
  Pause pause(engine);
  const auto first = engine.submit(endless(1));
  const auto request = engine.submit(endless(2));
  request->cancel();
  CHECK(request->finish_reason() == FinishReason::cancelled);  // at once, not when the engine comes to it
  CHECK(request->wait(0, kForEver).finish == FinishReason::cancelled);
  request->cancel();
  pause.end();
  CHECK(wait_for_end(*first) == FinishReason::length);
  CHECK(request->tokens().empty());
  CHECK(request->finish_reason() == FinishReason::cancelled);
}

TEST_CASE("request: cancelled while it runs, nothing more comes") {
  SmallEngine engine;
  const auto request = engine.submit(infinite());
  REQUIRE(soon([&] { return request->tokens().size() > 5; }));
  Pause pause(engine);
  request->cancel();
  CHECK(request->finish_reason() == FinishReason::cancelled);
  const std::vector<int32_t> tokens = request->tokens();
  const std::string text = text_of(*request);
  pause.end();
  const auto next = engine.submit(endless(2));
  CHECK(wait_for_end(*next) == FinishReason::length);
  CHECK(soon([&] { return engine.stats().running == 0; }));  // the engine has left the first
  CHECK(request->tokens() == tokens);
  CHECK(text_of(*request) == text);
}

TEST_CASE("request: cancelled from its own waker in the middle of a text") {
  SmallEngine engine;
  Pause pause(engine);
  const auto request = engine.submit(endless(1));
  std::weak_ptr<Request> weak = request;
  request->set_waker([weak] {
    if (const auto r = weak.lock())
      if (r->wait(0, 0).pieces.size() == 4) r->cancel();
  });
  pause.end();
  CHECK(wait_for_end(*request) == FinishReason::cancelled);
  CHECK(request->wait(0, 0).pieces.size() == 4);
}

TEST_CASE("request: cancelled after its end, it stays what it was") {
  SmallEngine engine;
  const auto request = engine.submit(endless(1));
  CHECK(wait_for_end(*request) == FinishReason::length);
  const std::string text = text_of(*request);
  request->cancel();
  CHECK(request->finish_reason() == FinishReason::length);
  CHECK(text_of(*request) == text);
}

TEST_CASE("request: what the engine still brings after the end is not taken") {
  Request request(endless(1));
  Sample sample;
  sample.token = 7;
  request.publish(sample, "ab");
  request.publish(sample, "");  // a token whose text is not certain yet
  request.cancel();
  request.publish(sample, "more");
  request.finish(FinishReason::length, "rest", 5);
  request.fail_with(std::make_exception_ptr(std::bad_alloc()));
  CHECK(request.tokens() == std::vector<int32_t>{7, 7});
  CHECK(request.wait(0, 0).pieces == std::vector<std::string>{"ab"});
  CHECK(request.finish_reason() == FinishReason::cancelled);
  CHECK(request.last_logits_hash() == 0);
  CHECK_NOTHROW(request.rethrow_error());
}

TEST_CASE("request: a waker that throws harms nobody, and no score follows the end") {
  Request request(endless(1));
  request.set_waker([] { throw std::bad_alloc(); }, false);
  request.add_score(1);
  CHECK_NOTHROW(request.publish({}, "a"));
  CHECK_NOTHROW(request.cancel());
  request.add_score(2);
  CHECK(request.scores() == std::vector<float>{1});
  CHECK(request.finish_reason() == FinishReason::cancelled);
}

TEST_CASE("request: an error is its end, and is raised again for whoever asks") {
  Request request(endless(1));
  request.fail_with(std::make_exception_ptr(Error(Code::generation, "broken")));
  CHECK(request.finish_reason() == FinishReason::error);
  for (int i = 0; i < 2; ++i) expect_error(Code::generation, {"broken"}, [&] { request.rethrow_error(); });
}

TEST_CASE("request: a deadline that is over before the engine begins") {
  SmallEngine engine;
  RequestOptions options = endless();
  options.deadline = Request::Clock::now();
  const auto request = engine.submit(options);
  CHECK(wait_for_end(*request) == FinishReason::timeout);
  CHECK(request->tokens().empty());
}

TEST_CASE("request: a deadline that passes while it waits for its turn") {
  SmallEngine engine;
  Pause pause(engine);
  const auto running = engine.submit(endless(1));
  RequestOptions options = endless(2);
  options.deadline = Request::Clock::now() + std::chrono::milliseconds(20);
  const auto request = engine.submit(options);
  CHECK(request->wait(0, 1e-4).finish == FinishReason::none);
  CHECK(request->wait(0, kForEver).finish == FinishReason::timeout);  // though the engine stands still
  CHECK(Request::Clock::now() >= *options.deadline);
  pause.end();
  CHECK(wait_for_end(*running) == FinishReason::length);
  CHECK(request->finish_reason() == FinishReason::timeout);
}

TEST_CASE("request: a deadline that passes while it runs keeps what there is") {
  SmallEngine engine;
  RequestOptions options = endless(1);
  options.deadline = Request::Clock::now() + std::chrono::milliseconds(300);
  std::atomic<bool> slow{true};
  Pause pause(engine);
  const auto request = engine.submit(options);
  const auto reader = std::this_thread::get_id();
  request->set_waker([&slow, reader] {  // the engine's thread waits here until time is up
    if (slow && std::this_thread::get_id() != reader) std::this_thread::sleep_for(std::chrono::milliseconds(350));
    slow = false;
  });
  slow = true;
  pause.end();
  CHECK(wait_for_end(*request) == FinishReason::timeout);
  CHECK(soon([&] { return request->last_logits_hash() != 0 || !request->tokens().empty(); }));
  CHECK(request->tokens().size() < 64);
  request->set_waker({});
  engine.close();
}

TEST_CASE("request: waiting for seconds that are none, or too many") {
  SmallEngine engine;
  Pause pause(engine);
  const auto request = engine.submit(endless(1));
  for (double seconds : {0.0, -1.0, -kForEver, std::numeric_limits<double>::quiet_NaN(), 1e-9})
    CHECK(request->wait(0, seconds).finish == FinishReason::none);
  for (double seconds : {1e10, 1e300, kForEver}) {
    std::atomic<bool> back{false};
    std::thread reader([&] {
      const Request::Snapshot snapshot = request->wait(0, seconds);
      CHECK((!snapshot.pieces.empty() || snapshot.finish != FinishReason::none));
      back = true;
    });
    if (seconds < kForEver) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      CHECK_FALSE(back);
      request->set_waker({});  // a false alarm: nothing new
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      CHECK_FALSE(back);
      request->cancel();
    }
    reader.join();
    CHECK(back);
    if (seconds < 1e300) break;
  }
}

TEST_CASE("request: the waker is called at once, for every piece, and for the end; then no more") {
  SmallEngine engine;
  Pause pause(engine);
  const auto request = engine.submit(endless(1));
  std::atomic<size_t> calls{0};
  request->set_waker([&calls] { ++calls; });
  CHECK(calls == 1);
  pause.end();
  CHECK(wait_for_end(*request) == FinishReason::length);
  engine.close();  // the engine's thread is done with its last call
  const size_t pieces = request->wait(0, 0).pieces.size();
  CHECK(calls >= pieces);  // the end may have brought the last piece
  CHECK(calls <= pieces + 2);
  request->set_waker({});
  const size_t before = calls;
  request->cancel();
  CHECK(calls == before);
}

TEST_CASE("request: a waker may use the engine and the request, also when the engine closes") {
  SmallEngine engine(EngineOptions{.streams = 1});
  const auto running = engine.submit(infinite());
  REQUIRE(soon([&] { return running->tokens().size() > 3; }));
  const auto waiting = engine.submit(endless(2));
  Pause pause(engine);
  const auto arrived = engine.submit(endless(3));
  std::atomic<int> ends{0};
  for (const auto& request : {running, waiting, arrived}) {
    std::weak_ptr<Request> weak = request;
    request->set_waker([&, weak] {
      (void)engine.waiting();
      if (const auto r = weak.lock()) ends += r->finish_reason() == FinishReason::cancelled;
    });
  }
  std::thread closer([&] { engine.close(); });
  pause.end();
  closer.join();
  CHECK(ends == 3);
}

TEST_CASE("request: what a waker holds is let go where no lock is held") {
  SmallEngine engine;
  std::atomic<int> gone{0};
  {
    Pause pause(engine);
    const auto request = engine.submit(endless(1));
    Request* raw = request.get();
    auto look = [&gone, &engine, raw] {
      (void)engine.waiting();
      (void)raw->finish_reason();
      ++gone;
    };
    request->set_waker([held = at_the_end(look)] {});
    request->set_waker([] {});  // lets go of the first
    CHECK(gone == 1);
    // Held by the engine alone: it lets go when it is done.
    request->set_waker([held = at_the_end([&gone, &engine] {
                          (void)engine.waiting();
                          ++gone;
                        })] {});
  }
  CHECK(soon([&] { return gone == 2; }));
}

TEST_CASE("request: times are in order") {
  SmallEngine engine;
  Pause pause(engine);
  const auto request = engine.submit(endless(1));
  CHECK(request->timing().first_token < 0);
  CHECK(request->timing().finished < 0);
  CHECK(request->last_logits_hash() == 0);
  pause.end();
  wait_for_end(*request);
  const Request::Timing t = request->timing();
  CHECK(t.started >= 0);
  CHECK(t.first_token > t.started);
  CHECK(t.finished >= t.first_token);
  CHECK_NOTHROW(request->rethrow_error());
}
