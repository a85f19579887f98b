// The engine on an emulated GPU tells what it tells on the CPU, however many passes run ahead of what is known.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cuda/gpu.h"
#include "cuda/orders.h"
#include "engine/backends.h"
#include "engine/small_engine.h"
#include "engine/told.h"
#include "io/expect_error.h"
#include "kernels/inputs.h"
#include "model/forward.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

std::shared_ptr<Model> model_on(Device device, Rounding rounding = Rounding::none) {
  ModelOptions options{DType::float32, 1, "scalar"};
  options.device = device;
  options.rounding = rounding;
  return std::make_shared<Model>(make_checkpoint(kSmallConfig, Format::v0, 0, 7).bytes, options);
}

bool engine_has_cuda() {
  const std::vector<Device> built = built_devices();
  return std::find(built.begin(), built.end(), Device::cuda) != built.end();
}

// Requests of all kinds: those that a device draws by itself, and those that need the host.
std::vector<RequestOptions> assorted(uint32_t seed, size_t n) {
  std::mt19937 random(seed);
  std::vector<RequestOptions> all;
  for (size_t i = 0; i < n; ++i) {
    RequestOptions options = endless(random() % 1000 + 1);
    const size_t length = random() % 3 ? random() % 40 + 1 : random() % 4 + 1, differs_at = random() % 50;
    options.prompt.clear();
    for (size_t t = 0; t < length; ++t)
      options.prompt.push_back(static_cast<int32_t>((t * 7 + 1 + (t >= differs_at ? i : 0)) % 24));
    options.max_new_tokens = static_cast<int64_t>(random() % 20);
    switch (random() % 8) {
      case 0: options.sampling.logprobs = 1; break;
      case 1: options.bad_words = {"ab"}; break;
      case 2: options.overflow = Overflow::shift, options.max_new_tokens = 66; break;
      case 3: options.end_tokens = {2, 3, 4, 5}, options.min_new_tokens = static_cast<int64_t>(random() % 9); break;
      case 4: options.stop = {"a", "好"}; break;
      case 5: options.score_from = length > 1 ? 1 : 0; break;
      default: break;
    }
    if (random() % 3 == 0) options.sampling.repetition_penalty = 1.2f;
    if (random() % 3 == 0) options.sampling.top_p = 0.9f;
    options.priority = static_cast<int32_t>(random() % 3);
    all.push_back(std::move(options));
  }
  return all;
}

// All but the hash, which is 0 where the logits never came to the host.
Told told_anywhere(Request& request) {
  Told told = told_by(request);
  told.hash = 0;
  return told;
}

}  // namespace

TEST_CASE("cuda engine: stories of the CPU, whoever comes, leaves or gives way, and however far it runs ahead") {
  if (!engine_has_cuda()) return;
  const std::vector<RequestOptions> asked = assorted(5, 14);
  std::vector<Told> expected;
  {
    SmallEngine engine(EngineOptions{}, model_on(Device::cpu));
    for (const RequestOptions& options : asked) expected.push_back(told_anywhere(*engine.submit(options)));
  }
  uint64_t preemptions = 0, reused = 0;
  const auto model = model_on(Device::cuda);
  const size_t page = model->kv_layout().block_bytes();
  struct Limits {
    int ahead;
    size_t pages;
  };
  for (const Limits& limits : {Limits{0, 60}, {1, 5}, {3, 5}, {3, 60}}) {
    const int ahead = limits.ahead;
    const size_t pages = limits.pages;
    CAPTURE(ahead);
    CAPTURE(pages);
    std::mt19937 random(static_cast<uint32_t>(ahead) + 10 * static_cast<uint32_t>(pages));
    SmallEngine engine(EngineOptions{.streams = 6, .kv_bytes = pages * page, .prompt_rows = 9, .ahead = ahead}, model);
    const auto [requests, cancelled] = submit_and_cancel(engine, asked, random, 4, std::chrono::milliseconds(2));
    for (size_t i = 0; i < asked.size(); ++i) {
      CAPTURE(i);
      const Told told = told_anywhere(*requests[i]);
      if (!cancelled.count(i)) {
        CHECK(told.reason == expected[i].reason);
        CHECK(told == expected[i]);
      } else {
        REQUIRE(told.tokens.size() <= expected[i].tokens.size());
        CHECK(std::equal(told.tokens.begin(), told.tokens.end(), expected[i].tokens.begin()));
      }
    }
    const Stats stats = settled(engine);
    CHECK(stats.pages <= pages);
    CHECK(stats.pages == stats.pages_kept);  // nobody holds any
    preemptions += stats.preemptions;
    reused += stats.reused_tokens;
  }
  CHECK(preemptions > 2);  // or this test shows little
  CHECK(reused > 50);
}

TEST_CASE("cuda engine: what runs ahead is counted once, and what nobody wants not at all") {
  if (!engine_has_cuda()) return;
  const auto model = model_on(Device::cuda);
  for (int ahead : {0, 1, 3}) {
    SmallEngine engine(EngineOptions{.ahead = ahead}, model);
    RequestOptions options = endless(3);
    options.prompt = {1, 5, 9};
    options.max_new_tokens = 12;
    const Told told = told_anywhere(*engine.submit(options));
    CHECK(told.tokens.size() == 12);
    Stats stats = settled(engine);
    CHECK(stats.steps == 12);
    CHECK(stats.new_tokens == 12);
    CHECK(stats.prompt_tokens == 2);  // and the last one gave the first new one
    options.end_tokens = {told.tokens[7]};
    const size_t first = static_cast<size_t>(std::find(told.tokens.begin(), told.tokens.end(), told.tokens[7]) - told.tokens.begin());
    CHECK(told_anywhere(*engine.submit(options)).tokens.size() == first);
    REQUIRE(soon([&] { return engine.stats().running == 0; }));
    // The passes beyond the end are dropped; none of them counts, whenever it ends.
    CHECK(told_anywhere(*engine.submit(options)).tokens.size() == first);
    stats = settled(engine);
    CHECK(stats.new_tokens == 12 + 2 * first);
    CHECK(stats.steps == 12 + 2 * (first + 1));
  }
}

TEST_CASE("cuda engine: cancelled in full flight, and in steps of the caller's") {
  if (!engine_has_cuda()) return;
  const auto model = model_on(Device::cuda);
  std::vector<int32_t> expected;
  {
    SmallEngine engine(EngineOptions{}, model_on(Device::cpu));
    expected = told_anywhere(*engine.submit(endless(4))).tokens;
  }
  SmallEngine engine(EngineOptions{.own_thread = false, .ahead = 3}, model);
  const auto endless_one = engine.submit(infinite(2)), other = engine.submit(endless(4));
  size_t steps = 0;
  while (other->finish_reason() == FinishReason::none) {
    engine.step(Request::Clock::now() + std::chrono::microseconds(50));
    if (++steps == 40) endless_one->cancel();
    REQUIRE(steps < 100000);
  }
  CHECK(other->tokens() == expected);
  while (engine.step(Request::Clock::now()) > 0) REQUIRE(++steps < 100000);
  CHECK(engine.stats().running == 0);
  const auto again = engine.submit(infinite(2));
  for (int i = 0; i < 5; ++i) engine.step(Request::Clock::now() + std::chrono::milliseconds(1));
}  // and ends with passes under way

#ifndef TINYZH_ON_GPU
TEST_CASE("cuda engine: a device that fails is the error of who runs, and serves the next") {
  if (!engine_has_cuda()) return;
  SmallEngine engine(EngineOptions{.own_thread = false, .ahead = 2}, model_on(Device::cuda));
  const auto request = engine.submit(endless(1));
  for (int i = 0; i < 3; ++i) engine.step(Request::Clock::now());
  cuda::emulation::fail_next_launch();
  while (engine.step(Request::Clock::now()) > 0) {
  }
  CHECK(request->finish_reason() == FinishReason::error);
  CHECK_THROWS_AS(request->rethrow_error(), cuda::emulation::Fault);
  const auto next = engine.submit(endless(1));
  while (engine.step(Request::Clock::now()) > 0) {
  }
  CHECK(next->finish_reason() == FinishReason::length);
}
#endif

TEST_CASE("cuda engine: how far it runs ahead is a number, or TINYZH_AHEAD") {
  expect_error(Code::invalid_argument, {"ahead is 9", "0 to 8"}, [] { SmallEngine(EngineOptions{.ahead = 9}); });
}

namespace {

struct Stretch {
  Stretch(const Model& model, const Backend& backend) : cache(model.kv_layout(), backend.block_memory()) { cache.reserve(60); }
  KvCache cache;
  int32_t slot = -1, position = 0;
};

}  // namespace

TEST_CASE("gpu: a pass of one token each is a graph, which draws, of as many launches as it needs") {
  for (Rounding rounding : {Rounding::none, Rounding::float16}) {
    const auto model = model_on(Device::cuda, rounding);
    cuda::Gpu gpu(*model, 2);
    SamplingParams params;
    params.temperature = 2;
    std::vector<Stretch> sequences;
    for (int i = 0; i < 3; ++i) {
      sequences.emplace_back(*model, gpu);
      params.seed = static_cast<uint64_t>(i) + 1;
      sequences.back().slot = gpu.open_slot({params, {}, {}, {}});
    }
    const size_t layers = 2, of_layer = rounding == Rounding::none ? 9 : 8;
    const auto step = [&](size_t count) {
      std::vector<Row> rows;
      for (size_t i = 0; i < count; ++i) {
        Stretch& s = sequences[i];
        rows.push_back({s.position == 0 ? 1 : ~s.slot, s.position, s.cache.table(), false, s.slot});
        ++s.position;
      }
      gpu.begin(rows, nullptr);
    };
    for (int i = 0; i < 6; ++i) {
      const size_t before = launches();
      step(3);
      CHECK(launches() == before);  // only put into the queue
      CHECK(gpu.graphs() == (i == 0 ? 0 : 1));
      CHECK(gpu.proceed(ThreadPool::kNever));
      CHECK(gpu.drawn().size() == 3);
      if (kEmulated) CHECK(launches() - before == of_layer * layers + 4);
    }
    // Three passes under way at a time: they end in order.
    for (int i = 0; i < 3; ++i) step(3 - static_cast<size_t>(i));
    for (size_t count : {3, 2, 1}) {
      CHECK(gpu.proceed(ThreadPool::kNever));
      CHECK(gpu.drawn().size() == count);
    }
    CHECK(gpu.proceed(ThreadPool::kNever));  // none is under way
    CHECK(gpu.drawn().empty());
  }
}

TEST_CASE("gpu: more rows than there was room for, while passes are under way") {
  const auto model = model_on(Device::cuda), host = model_on(Device::cpu);
  cuda::Gpu gpu(*model, 2);
  const size_t V = 24;
  std::vector<Stretch> sequences;
  for (int i = 0; i < 40; ++i) sequences.emplace_back(*model, gpu);
  tinyzh::Forward forward(host->weights(), KvType::float32, host->kernels(), host->pool());
  std::vector<float> expected(40 * V), found[3];
  std::vector<Row> rows[3];
  size_t first = 0;
  for (size_t pass = 0; pass < 3; ++pass) {
    const size_t count = pass == 0 ? 1 : pass == 1 ? 9 : 30;
    found[pass].resize(count * V);
    for (size_t i = 0; i < count; ++i) {
      Stretch& s = sequences[first + i];
      rows[pass].push_back({static_cast<int32_t>((first + i) % V), 0, s.cache.table(), true});
      KvCache cache(host->kv_layout());
      cache.reserve(1);
      const Row row{static_cast<int32_t>((first + i) % V), 0, cache.table(), true};
      forward.run({&row, 1}, expected.data() + (first + i) * V);
    }
    gpu.begin(rows[pass], found[pass].data());
    first += count;
  }
  first = 0;
  for (size_t pass = 0; pass < 3; ++pass) {
    CHECK(gpu.proceed(ThreadPool::kNever));
    CHECK(same(found[pass], std::span<const float>(expected).subspan(first * V, found[pass].size())));
    first += rows[pass].size();
  }
}

TEST_CASE("gpu: rows of its graphs") {
  size_t last = 0;
  std::set<size_t> sizes;
  for (size_t rows = 1; rows <= cuda::Gpu::kMaxRows; ++rows) {
    const size_t bucket = cuda::Gpu::bucket(rows);
    CHECK(bucket >= rows);
    CHECK(bucket >= last);
    CHECK(bucket - rows < std::max<size_t>(4, rows > 64 ? 64 : 8));
    last = bucket;
    sizes.insert(bucket);
  }
  CHECK(last == cuda::Gpu::kMaxRows);
  CHECK(sizes.size() == 4 + 7 + 15);
}
