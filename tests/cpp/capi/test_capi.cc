#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "capi/tinyzh.h"
#include "engine/small_engine.h"
#include "io/make_checkpoint.h"
#include "io/temporary_directory.h"
#include "text/tokenizer_bytes.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

const std::vector<std::byte>& checkpoint() {
  static const std::vector<std::byte> bytes = make_checkpoint(kSmallConfig, Format::v0, 0, 7).bytes;
  return bytes;
}

// A model, a tokenizer of its 24 pieces, and an engine.
struct Opened {
  explicit Opened(int32_t own_thread = 1, uint32_t streams = 64, uint32_t queue_limit = 1024) {
    tinyzh_error error;
    REQUIRE(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), nullptr, &model, &error) == TINYZH_OK);
    const std::vector<std::byte> pieces = small_tokenizer();
    const int32_t code = tinyzh_tokenizer_open_memory(pieces.data(), pieces.size(), 24, &tokenizer, &error);
    CAPTURE(std::string(error.message));
    REQUIRE(code == TINYZH_OK);
    tinyzh_engine_options options = tinyzh_engine_options_default();
    options.own_thread = own_thread;
    options.streams = streams;
    options.queue_limit = queue_limit;
    REQUIRE(tinyzh_engine_create(model, tokenizer, &options, &engine, &error) == TINYZH_OK);
  }
  ~Opened() {
    tinyzh_engine_destroy(engine);
    tinyzh_tokenizer_close(tokenizer);
    tinyzh_model_close(model);
  }
  static std::vector<std::byte> small_tokenizer() {
    const Vocabulary vocabulary = small_vocabulary();
    TokenizerBytes made;
    for (int32_t i = 3; i < vocabulary.size(); ++i) made.add(vocabulary[i].bytes, static_cast<float>(-i));
    const auto bytes = std::as_bytes(std::span(made.bytes));
    return {bytes.begin(), bytes.end()};
  }
  tinyzh_model* model = nullptr;
  tinyzh_tokenizer* tokenizer = nullptr;
  tinyzh_engine* engine = nullptr;
};

struct Story {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::string text;
  int32_t type = 0, finish = 0, code = 0;
  std::string message;
  void* user = nullptr;
};

// Polls until all these requests are over.
std::map<uint64_t, Story> listen(tinyzh_engine* engine, size_t requests, bool step = false) {
  std::map<uint64_t, Story> stories;
  size_t over = 0;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (over < requests && std::chrono::steady_clock::now() < limit) {
    if (step) tinyzh_engine_step(engine, 100);
    else tinyzh_engine_wait(engine, 100000);
    for (tinyzh_event event; tinyzh_engine_poll(engine, &event);) {
      Story& story = stories[event.request];
      CHECK(story.type < TINYZH_EVENT_FINISHED);  // nothing after the last event
      story.type = event.type;
      story.user = event.user;
      if (event.type == TINYZH_EVENT_TOKEN) {
        story.tokens.push_back(event.token);
        story.logprobs.push_back(event.logprob);
      }
      if (event.type == TINYZH_EVENT_TEXT) story.text += std::string(event.text, event.size);
      if (event.type == TINYZH_EVENT_FAILED) story.message = std::string(event.text, event.size);
      story.finish = event.finish;
      story.code = event.code;
      over += event.type >= TINYZH_EVENT_FINISHED;
    }
  }
  CHECK(over == requests);
  return stories;
}

tinyzh_request asked(const tinyzh_sampling& sampling, const std::vector<int32_t>& ids) {
  tinyzh_request request = tinyzh_request_default();
  request.sampling = &sampling;
  request.ids = ids.data();
  request.id_count = ids.size();
  request.token_events = 2;
  return request;
}

tinyzh_sampling hot(uint64_t seed) {
  tinyzh_sampling sampling = tinyzh_sampling_default();
  sampling.temperature = 2.5f;
  sampling.top_p = 1;
  sampling.seed = seed;
  return sampling;
}

void submit(tinyzh_engine* engine, const tinyzh_request& request, uint64_t* id = nullptr) {
  tinyzh_error error;
  const int32_t code = tinyzh_engine_submit(engine, &request, id, &error);
  CAPTURE(std::string(error.message));
  REQUIRE(code == TINYZH_OK);
}

}  // namespace

TEST_CASE("capi: versions, sizes, and what a model says of itself") {
  CHECK(tinyzh_abi_version() == TINYZH_ABI_VERSION);
  CHECK(tinyzh_numerics_version() > 0);
  CHECK(std::string(tinyzh_version()).size() > 2);
  Opened o;
  const tinyzh_model_info info = tinyzh_model_get_info(o.model);
  CHECK(info.dim == 32);
  CHECK(info.context == 64);
  CHECK(info.vocab_size == 24);
  CHECK(info.file_bytes == checkpoint().size());
  CHECK(info.fingerprint != 0);
  CHECK(tinyzh_tokenizer_size(o.tokenizer) == 24);
}

TEST_CASE("capi: with a thread and in steps, the stories are the engine's own") {
  std::vector<std::vector<int32_t>> expected;
  std::vector<std::string> texts;
  SmallEngine engine;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    RequestOptions options = endless();
    options.sampling.seed = seed;
    options.prompt = {1, static_cast<int32_t>(3 + seed)};
    options.end_tokens = {1, 2};
    const auto request = engine.submit(options);
    wait_for_end(*request);
    expected.push_back(request->tokens());
    texts.push_back(text_of(*request));
  }
  for (int32_t own_thread : {1, 0}) {
    Opened o(own_thread);
    std::map<uint64_t, size_t> which;
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      const tinyzh_sampling sampling = hot(seed);
      const std::vector<int32_t> ids = {1, static_cast<int32_t>(3 + seed)};
      tinyzh_request request = asked(sampling, ids);
      request.user = &o;
      uint64_t id;
      submit(o.engine, request, &id);
      CHECK(id != 0);
      which[id] = seed - 1;
    }
    for (const auto& [id, story] : listen(o.engine, 6, own_thread == 0)) {
      CHECK(story.tokens == expected[which[id]]);
      std::string text = story.text;  // a tokenizer.bin has a text for the unknown token, the engine above has not
      for (size_t at; (at = text.find("<unk>")) != std::string::npos;) text.erase(at, 5);
      CHECK(text == texts[which[id]]);
      CHECK(story.user == &o);
      for (float logprob : story.logprobs) CHECK(logprob < 0);
    }
    tinyzh_event event;
    CHECK(tinyzh_engine_poll(o.engine, &event) == 0);
    CHECK(tinyzh_engine_get_stats(o.engine).requests == 6);
  }
}

TEST_CASE("capi: a step keeps to its time, does something, and says how many are not over") {
  Opened o(0);
  CHECK(tinyzh_engine_step(o.engine, 1000) == 0);
  const tinyzh_sampling sampling = hot(1);
  const std::vector<int32_t> ids = {1, 5};
  for (int i = 0; i < 3; ++i) submit(o.engine, asked(sampling, ids));
  CHECK(tinyzh_engine_step(o.engine, 0) == 3);
  size_t steps = 0;
  while (tinyzh_engine_step(o.engine, 0) > 0) REQUIRE(++steps < 1000000);
  CHECK(steps > 100);
  CHECK(listen(o.engine, 3).size() == 3);
}

TEST_CASE("capi: text is encoded later, and what is wrong with it arrives as an event") {
  Opened o;
  const tinyzh_sampling sampling = hot(3);
  tinyzh_request request = tinyzh_request_default();
  request.sampling = &sampling;
  std::string text = "abcab";
  request.text = text.data();
  request.text_size = text.size();
  request.token_events = 1;
  submit(o.engine, request);
  text.assign(text.size(), 'x');  // it was copied
  const Story story = listen(o.engine, 1).begin()->second;
  int32_t found[32] = {};
  size_t count = 0;
  tinyzh_error error;
  REQUIRE(tinyzh_tokenizer_encode(o.tokenizer, "abcab", 5, TINYZH_ENCODE_BOS, found, 32, &count, &error) == TINYZH_OK);
  REQUIRE(count < 32);
  const std::vector<int32_t> ids(found, found + count);
  submit(o.engine, asked(sampling, ids));
  CHECK(listen(o.engine, 1).begin()->second.tokens == story.tokens);

  const std::string much(500, 'a');
  request.text = much.data();
  request.text_size = much.size();
  submit(o.engine, request);
  const Story failed = listen(o.engine, 1).begin()->second;
  CHECK(failed.type == TINYZH_EVENT_FAILED);
  CHECK(failed.code == TINYZH_CONTEXT_FULL);
  CHECK(failed.message.find("64") != std::string::npos);
}

TEST_CASE("capi: sizes that are too small are told what is needed") {
  Opened o;
  size_t count = 0;
  int32_t one = -7;
  tinyzh_error error;
  CHECK(tinyzh_tokenizer_encode(o.tokenizer, "abcab", 5, TINYZH_ENCODE_BOS, nullptr, 0, &count, &error) == TINYZH_OK);
  CHECK(count > 1);
  CHECK(tinyzh_tokenizer_encode(o.tokenizer, "abcab", 5, TINYZH_ENCODE_BOS, &one, 1, &count, &error) == TINYZH_OK);
  CHECK(one == 1);
  const char* bytes;
  size_t size;
  CHECK(tinyzh_tokenizer_piece(o.tokenizer, 6, &bytes, &size, &error) == TINYZH_OK);
  CHECK(std::string(bytes, size) == "ab");
  CHECK(tinyzh_tokenizer_piece(o.tokenizer, 24, &bytes, &size, &error) == TINYZH_INVALID_ARGUMENT);
  CHECK(std::string(error.message).find("0 to 23") != std::string::npos);
}

TEST_CASE("capi: cancel, timeout, priorities and a full queue") {
  Opened o(1, 1, 2);
  const tinyzh_sampling sampling = hot(1);
  const std::vector<int32_t> ids = {1};
  tinyzh_request request = asked(sampling, ids);
  request.shift = 1;  // for ever
  request.min_new_tokens = 1'000'000;
  uint64_t running;
  submit(o.engine, request, &running);
  while (tinyzh_engine_get_stats(o.engine).running == 0) std::this_thread::yield();
  request.timeout_us = 1000;
  uint64_t late, waiting;
  submit(o.engine, request, &late);
  request.timeout_us = -1;
  submit(o.engine, request, &waiting);
  tinyzh_error error;
  int32_t code = TINYZH_OK;
  for (int i = 0; i < 3 && code == TINYZH_OK; ++i) code = tinyzh_engine_submit(o.engine, &request, nullptr, &error);
  CHECK(code == TINYZH_QUEUE_FULL);
  CHECK(std::string(error.message).find("queue_limit") != std::string::npos);
  tinyzh_engine_cancel(o.engine, waiting);
  tinyzh_engine_cancel(o.engine, running);
  tinyzh_engine_cancel(o.engine, 12345);
  std::map<uint64_t, int32_t> finish;
  while (finish.size() < 3) {
    tinyzh_engine_wait(o.engine, 1'000'000);
    for (tinyzh_event event; tinyzh_engine_poll(o.engine, &event);)
      if (event.type == TINYZH_EVENT_FINISHED) finish[event.request] = event.finish;
  }
  CHECK(finish[running] == TINYZH_CANCELLED);
  CHECK(finish[waiting] == TINYZH_CANCELLED);
  CHECK(finish[late] == TINYZH_TIMEOUT);
}

TEST_CASE("capi: a session goes on from its tokens, forks, and is saved and loaded") {
  const TemporaryDirectory directory;
  const std::string path = directory / "s.tzs";
  for (int32_t own_thread : {1, 0}) {
    Opened o(own_thread);
    tinyzh_error error;
    tinyzh_session* session;
    REQUIRE(tinyzh_session_create(o.engine, &session, &error) == TINYZH_OK);
    const tinyzh_sampling sampling = hot(4);
    tinyzh_request request = tinyzh_request_default();
    request.sampling = &sampling;
    request.session = session;
    request.max_new_tokens = 5;
    request.token_events = 1;
    std::vector<int32_t> expected = {1};
    for (const char* said : {"abc", "c好", ""}) {
      request.text = said;
      request.text_size = std::strlen(said);
      submit(o.engine, request);
      CHECK(tinyzh_engine_submit(o.engine, &request, nullptr, &error) == TINYZH_BUSY);
      int32_t ids[32];
      size_t count;
      const uint32_t flags = expected.size() > 1 ? TINYZH_ENCODE_CONTINUE : 0;
      tinyzh_tokenizer_encode(o.tokenizer, said, request.text_size, flags, ids, 32, &count, nullptr);
      expected.insert(expected.end(), ids, ids + count);
      const Story story = listen(o.engine, 1, own_thread == 0).begin()->second;
      expected.insert(expected.end(), story.tokens.begin(), story.tokens.end());
    }
    const auto tokens = [](tinyzh_session* s) {
      std::vector<int32_t> ids(1000);
      size_t count;
      tinyzh_session_tokens(s, ids.data(), ids.size(), &count, nullptr);
      ids.resize(count);
      return ids;
    };
    CHECK(tokens(session) == expected);
    tinyzh_session *fork, *loaded;
    REQUIRE(tinyzh_session_fork(session, &fork, &error) == TINYZH_OK);
    REQUIRE(tinyzh_session_save(session, path.c_str(), &error) == TINYZH_OK);
    REQUIRE(tinyzh_session_load(o.engine, path.c_str(), &loaded, &error) == TINYZH_OK);
    CHECK(tokens(fork) == expected);
    CHECK(tokens(loaded) == expected);
    tinyzh_session* none;
    CHECK(tinyzh_session_load(o.engine, (path + "none").c_str(), &none, &error) == TINYZH_FILE);
    CHECK(none == nullptr);
    tinyzh_session_destroy(fork);
    tinyzh_session_destroy(loaded);
    tinyzh_session_destroy(session);
  }
}

TEST_CASE("capi: scores come as tokens with their log-probabilities") {
  Opened o;
  const std::vector<int32_t> ids = {1, 5, 9, 3, 11, 20};
  const tinyzh_sampling sampling = hot(1);
  tinyzh_request request = asked(sampling, ids);
  request.score_from = 2;
  submit(o.engine, request);
  const Story story = listen(o.engine, 1).begin()->second;
  CHECK(story.tokens == std::vector<int32_t>{9, 3, 11, 20});
  for (float logprob : story.logprobs) CHECK(logprob < 0);
}

TEST_CASE("capi: what is wrong is said, and nothing happens") {
  Opened o;
  tinyzh_error error;
  const tinyzh_sampling sampling = hot(1);
  const std::vector<int32_t> ids = {1};
  const auto refuse = [&](const char* word, auto change) {
    tinyzh_sampling s = sampling;
    tinyzh_request request = asked(s, ids);
    change(request, s);
    CHECK(tinyzh_engine_submit(o.engine, &request, nullptr, &error) == TINYZH_INVALID_ARGUMENT);
    CAPTURE(std::string(error.message));
    CHECK(std::string(error.message).find(word) != std::string::npos);
  };
  const std::vector<int32_t> wrong = {1, 24};
  refuse("temperature is -1", [](tinyzh_request&, tinyzh_sampling& s) { s.temperature = -1; });
  refuse("top_p", [](tinyzh_request&, tinyzh_sampling& s) { s.top_p = 0; });
  refuse("min_p", [](tinyzh_request&, tinyzh_sampling& s) { s.min_p = NAN; });
  const tinyzh_bias bias = {99, 1.0f};
  refuse("is 99", [&](tinyzh_request&, tinyzh_sampling& s) { s.logit_bias = &bias; s.logit_bias_count = 1; });
  refuse("logit_bias is NULL", [&](tinyzh_request&, tinyzh_sampling& s) { s.logit_bias_count = 1; });
  refuse("token 1 is 24", [&](tinyzh_request& r, tinyzh_sampling&) { r.ids = wrong.data(); r.id_count = 2; });
  refuse("stop is NULL", [](tinyzh_request& r, tinyzh_sampling&) { r.stop_count = 1; });
  refuse("text is NULL", [](tinyzh_request& r, tinyzh_sampling&) { r.text_size = 1; });
  refuse("text and as ids", [](tinyzh_request& r, tinyzh_sampling&) { r.text = "a"; r.text_size = 1; });
  refuse("struct_size is 100000", [](tinyzh_request& r, tinyzh_sampling&) { r.struct_size = 100000; });
  CHECK(tinyzh_engine_submit(nullptr, nullptr, nullptr, &error) == TINYZH_INVALID_ARGUMENT);
  CHECK(tinyzh_engine_submit(o.engine, nullptr, nullptr, nullptr) == TINYZH_INVALID_ARGUMENT);

  tinyzh_model* model = reinterpret_cast<tinyzh_model*>(1);
  CHECK(tinyzh_model_open("/no/such/file", nullptr, &model, &error) == TINYZH_FILE);
  CHECK(model == nullptr);
  CHECK(tinyzh_model_open_memory("x", 1, nullptr, &model, &error) == TINYZH_CHECKPOINT);
  tinyzh_model_options options = tinyzh_model_options_default();
  options.weights = 77;
  CHECK(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &model, &error) == TINYZH_INVALID_ARGUMENT);
  options = tinyzh_model_options_default();
  options.isa = "abacus";
  CHECK(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &model, &error) == TINYZH_BACKEND);
  options = tinyzh_model_options_default();
  options.device = "abacus";
  CHECK(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &model, &error) == TINYZH_BACKEND);
  CHECK(std::string(error.message).find("device is 'abacus': this build has cpu") == 0);
  options.device = "cpu";
  CHECK(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &model, &error) == TINYZH_OK);
  tinyzh_model_close(model);
  tinyzh_tokenizer* tokenizer;
  CHECK(tinyzh_tokenizer_open_memory("x", 1, 0, &tokenizer, &error) == TINYZH_TOKENIZER);
  CHECK(tinyzh_model_open(std::string(5000, 'a').c_str(), nullptr, &model, &error) == TINYZH_FILE);
  CHECK(std::strlen(error.message) < sizeof error.message);
  tinyzh_model_close(nullptr);
}

TEST_CASE("capi: handles that are not there, or not any more") {
  tinyzh_error error;
  tinyzh_event event;
  size_t count;
  const int32_t ids[] = {1};
  const tinyzh_request request = tinyzh_request_default();
  tinyzh_session* session = nullptr;
  for (const int32_t code : {
           tinyzh_model_open(nullptr, nullptr, nullptr, &error), tinyzh_model_open_memory(nullptr, 1, nullptr, nullptr, &error),
           tinyzh_tokenizer_open(nullptr, 0, nullptr, &error), tinyzh_tokenizer_open_memory(nullptr, 1, 0, nullptr, &error),
           tinyzh_tokenizer_encode(nullptr, "a", 1, 0, nullptr, 0, &count, &error),
           tinyzh_tokenizer_piece(nullptr, 1, nullptr, nullptr, &error), tinyzh_engine_create(nullptr, nullptr, nullptr, nullptr, &error),
           tinyzh_engine_submit(nullptr, &request, nullptr, &error), tinyzh_model_swap(nullptr, nullptr, &error),
           tinyzh_session_create(nullptr, &session, &error), tinyzh_session_fork(nullptr, &session, &error),
           tinyzh_session_tokens(nullptr, nullptr, 0, &count, &error), tinyzh_session_save(nullptr, "x", &error),
           tinyzh_session_load(nullptr, "x", &session, &error),
       })
    CHECK(code == TINYZH_INVALID_ARGUMENT);
  CHECK(tinyzh_engine_poll(nullptr, &event) == 0);
  CHECK(tinyzh_engine_wait(nullptr, -1) == 0);
  CHECK(tinyzh_engine_step(nullptr, 1) == 0);
  CHECK(tinyzh_engine_get_stats(nullptr).steps == 0);
  CHECK(tinyzh_model_get_info(nullptr).dim == 0);
  CHECK(tinyzh_tokenizer_size(nullptr) == 0);
  tinyzh_engine_cancel(nullptr, 1);
  tinyzh_engine_destroy(nullptr);
  tinyzh_model_close(nullptr);
  tinyzh_tokenizer_close(nullptr);
  tinyzh_session_destroy(nullptr);

  Opened o, other;
  REQUIRE(tinyzh_session_create(o.engine, &session, &error) == TINYZH_OK);
  tinyzh_request turn = tinyzh_request_default();
  turn.ids = ids;
  turn.id_count = 1;
  turn.session = session;
  turn.max_new_tokens = 3;
  submit(o.engine, turn);
  listen(o.engine, 1);
  CHECK(tinyzh_engine_submit(other.engine, &turn, nullptr, &error) == TINYZH_INVALID_ARGUMENT);
  tinyzh_engine_destroy(std::exchange(o.engine, nullptr));
  CHECK(tinyzh_engine_submit(other.engine, &turn, nullptr, &error) == TINYZH_INVALID_ARGUMENT);
  CHECK(tinyzh_session_save(session, "never written", &error) == TINYZH_CLOSED);
  CHECK(tinyzh_session_tokens(session, nullptr, 0, &count, &error) == TINYZH_OK);
  CHECK(count == 4);
  tinyzh_session_destroy(session);
}

TEST_CASE("capi: an older program's shorter structs go on working") {
  Opened o;
  tinyzh_engine_options options = tinyzh_engine_options_default();
  options.struct_size = offsetof(tinyzh_engine_options, prompt_rows);
  options.prompt_rows = 0;  // beyond what it says it has
  options.streams = 3;
  tinyzh_engine* engine;
  tinyzh_error error;
  REQUIRE(tinyzh_engine_create(o.model, nullptr, &options, &engine, &error) == TINYZH_OK);
  tinyzh_engine_destroy(engine);
}

TEST_CASE("capi: many threads submit and cancel while one polls") {
  Opened o(1, 8, 100000);
  std::atomic<size_t> submitted{0};
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 50; ++i) {
        const tinyzh_sampling sampling = hot(t * 100 + i);
        const std::vector<int32_t> ids = {1, 5};
        tinyzh_request request = asked(sampling, ids);
        request.max_new_tokens = 10;
        uint64_t id;
        if (tinyzh_engine_submit(o.engine, &request, &id, nullptr) != TINYZH_OK) continue;
        ++submitted;
        if (i % 5 == 0) tinyzh_engine_cancel(o.engine, id);
        (void)tinyzh_engine_get_stats(o.engine);
      }
    });
  const std::map<uint64_t, Story> stories = listen(o.engine, 200);
  for (std::thread& thread : threads) thread.join();
  CHECK(submitted == 200);
  CHECK(stories.size() == 200);
}

namespace {

// Counts what is out, and refuses from the nth on.
struct Counted {
  std::atomic<size_t> bytes{0}, calls{0}, refuse_from{SIZE_MAX};
  std::atomic<bool> aligned{true};
  tinyzh_allocator allocator() {
    return {[](void* user, size_t size, size_t alignment) -> void* {
              auto& self = *static_cast<Counted*>(user);
              if (self.calls++ >= self.refuse_from) return nullptr;
              if (alignment != 64) self.aligned = false;
              self.bytes += size;
              return ::operator new(size, std::align_val_t{alignment});
            },
            [](void* user, void* memory, size_t size) {
              static_cast<Counted*>(user)->bytes -= size;
              ::operator delete(memory, std::align_val_t{64});
            },
            this};
  }
};

}  // namespace

TEST_CASE("capi: large memory comes from the caller's allocator and goes back to it") {
  Counted counted;
  const tinyzh_allocator allocator = counted.allocator();
  tinyzh_model_options options = tinyzh_model_options_default();
  options.allocator = &allocator;
  options.weights = TINYZH_INT8;
  options.device = "cpu";  // a GPU's memory is its own
  tinyzh_model* model;
  tinyzh_error error;
  REQUIRE(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &model, &error) == TINYZH_OK);
  const tinyzh_model_info info = tinyzh_model_get_info(model);
  CHECK(counted.bytes == info.file_bytes + info.weight_bytes);
  tinyzh_engine* engine;
  REQUIRE(tinyzh_engine_create(model, nullptr, nullptr, &engine, &error) == TINYZH_OK);
  const tinyzh_sampling sampling = hot(1);
  const std::vector<int32_t> ids = {1, 5};
  const size_t before = counted.bytes;
  submit(engine, asked(sampling, ids));
  listen(engine, 1);
  CHECK(counted.bytes >= before + info.cache_page_bytes);
  CHECK(counted.aligned);
  tinyzh_engine_destroy(engine);
  tinyzh_model_close(model);
  CHECK(counted.bytes == 0);

  tinyzh_allocator half = allocator;
  half.release = nullptr;
  options.allocator = &half;
  CHECK(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &model, &error) == TINYZH_INVALID_ARGUMENT);
  CHECK(std::string(error.message).find("allocator") != std::string::npos);
}

TEST_CASE("capi: an allocator that has nothing left, at any moment") {
  const tinyzh_sampling sampling = hot(1);
  const std::vector<int32_t> ids = {1, 5};
  std::map<int32_t, size_t> seen;
  bool more = true;
  for (size_t moment = 0; more; ++moment) {
    CAPTURE(moment);
    Counted counted;
    counted.refuse_from = moment;
    const tinyzh_allocator allocator = counted.allocator();
    tinyzh_model_options options = tinyzh_model_options_default();
    options.allocator = &allocator;
    options.weights = TINYZH_INT8;
    options.threads = 2;
    tinyzh_error error;
    tinyzh_model* model = nullptr;
    int32_t code = tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &model, &error);
    tinyzh_engine* engine = nullptr;
    if (code == TINYZH_OK) code = tinyzh_engine_create(model, nullptr, nullptr, &engine, &error);
    if (code == TINYZH_OK) {
      for (int i = 0; i < 3; ++i) submit(engine, asked(sampling, ids));
      for (const auto& [id, story] : listen(engine, 3)) code = std::max(code, story.code);
      counted.refuse_from = SIZE_MAX;  // there is some again
      submit(engine, asked(sampling, ids));
      CHECK(listen(engine, 1).begin()->second.code == TINYZH_OK);
    }
    CHECK((code == TINYZH_OK || code == TINYZH_OUT_OF_MEMORY));
    more = code != TINYZH_OK;
    ++seen[code];
    tinyzh_engine_destroy(engine);
    tinyzh_model_close(model);
    CHECK(counted.bytes == 0);
  }
  CHECK(seen[TINYZH_OUT_OF_MEMORY] > 30);
  CHECK(seen[TINYZH_OK] == 1);
}

TEST_CASE("capi: a model is swapped while stories are told") {
  const std::vector<std::byte> other = make_checkpoint(kSmallConfig, Format::v0, 0, 8).bytes;
  const tinyzh_sampling sampling = hot(2);
  const std::vector<int32_t> ids = {1, 5};
  tinyzh_error error;
  const auto alone = [&](const std::vector<std::byte>& bytes) {
    Opened o;
    tinyzh_model* model;
    REQUIRE(tinyzh_model_open_memory(bytes.data(), bytes.size(), nullptr, &model, &error) == TINYZH_OK);
    REQUIRE(tinyzh_model_swap(o.engine, model, &error) == TINYZH_OK);
    submit(o.engine, asked(sampling, ids));
    std::vector<int32_t> tokens = listen(o.engine, 1).begin()->second.tokens;
    tinyzh_engine_destroy(std::exchange(o.engine, nullptr));
    tinyzh_model_close(model);
    return tokens;
  };
  const std::vector<int32_t> before = alone(checkpoint()), after = alone(other);
  REQUIRE(before != after);
  for (int32_t own_thread : {1, 0}) {
    CAPTURE(own_thread);
    Counted counted;
    const tinyzh_allocator allocator = counted.allocator();
    tinyzh_model_options options = tinyzh_model_options_default();
    options.allocator = &allocator;
    Opened o(own_thread, 2);
    tinyzh_model *first, *second;
    REQUIRE(tinyzh_model_open_memory(checkpoint().data(), checkpoint().size(), &options, &first, &error) == TINYZH_OK);
    REQUIRE(tinyzh_model_open_memory(other.data(), other.size(), nullptr, &second, &error) == TINYZH_OK);
    REQUIRE(tinyzh_model_swap(o.engine, first, &error) == TINYZH_OK);
    tinyzh_model_close(first);  // the engine has it
    tinyzh_session* session;
    REQUIRE(tinyzh_session_create(o.engine, &session, &error) == TINYZH_OK);
    std::map<uint64_t, const std::vector<int32_t>*> expected;
    uint64_t id;
    for (int i = 0; i < 5; ++i) {  // some run, some wait
      submit(o.engine, asked(sampling, ids), &id);
      expected[id] = &before;
    }
    tinyzh_request said = asked(sampling, ids);
    said.session = session;
    said.max_new_tokens = 3;
    submit(o.engine, said, &id);
    REQUIRE(tinyzh_model_swap(o.engine, second, &error) == TINYZH_OK);
    for (int i = 0; i < 5; ++i) {
      uint64_t later;
      submit(o.engine, asked(sampling, ids), &later);
      expected[later] = &after;
    }
    CHECK(counted.bytes > 0);
    const auto stories = listen(o.engine, 11, own_thread == 0);
    for (const auto& [which, tokens] : expected) CHECK(stories.at(which).tokens == *tokens);
    CHECK(stories.at(id).tokens.size() == 3);
    CHECK(counted.bytes == 0);  // nothing of the old model is left

    said.id_count = 0;  // the session goes on
    submit(o.engine, said, &id);
    CHECK(listen(o.engine, 1, own_thread == 0).at(id).tokens.size() == 3);
    size_t count;
    CHECK(tinyzh_session_tokens(session, nullptr, 0, &count, &error) == TINYZH_OK);
    CHECK(count == 2 + 3 + 3);
    tinyzh_session_destroy(session);

    Config larger = kSmallConfig;
    larger.vocab_size = 30;
    const std::vector<std::byte> unlike = make_checkpoint(larger, Format::v0, 0, 8).bytes;
    REQUIRE(tinyzh_model_open_memory(unlike.data(), unlike.size(), nullptr, &first, &error) == TINYZH_OK);
    CHECK(tinyzh_model_swap(o.engine, first, &error) == TINYZH_TOKENIZER);
    tinyzh_model_close(first);
    CHECK(tinyzh_model_swap(o.engine, nullptr, &error) == TINYZH_INVALID_ARGUMENT);
    tinyzh_engine_destroy(std::exchange(o.engine, nullptr));
    tinyzh_model_close(second);
  }
}
