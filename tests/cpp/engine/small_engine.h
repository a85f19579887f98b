// An engine over a model of random weights and a vocabulary that cuts text in awkward places, and a way
// to hold it still.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "io/make_checkpoint.h"

namespace tinyzh::testing {

inline constexpr Config kSmallConfig{32, 44, 2, 4, 2, 24, 64, true};

inline Vocabulary small_vocabulary() {
  std::vector<tinyzh::Piece> pieces = {{"", PieceKind::unknown}, {"", PieceKind::control}, {"", PieceKind::control}};
  for (const char* bytes : {"a", "b", "c", "ab", "ba", "abc", " c", "a ", "好", "\xE5", "\xA5", "\xBD", "。", "”", "。”",
                            "好a", "b\xE5", "cc", "aa", "\xA5\xBD", "bb"})
    pieces.push_back({bytes, PieceKind::normal});
  return Vocabulary(std::move(pieces));
}

inline std::shared_ptr<Model> small_model(const std::string& isa = "") {
  return std::make_shared<Model>(make_checkpoint(kSmallConfig, Format::v0, 0, 7).bytes, ModelOptions{{}, 2, isa});
}

struct SmallEngine : Engine {
  explicit SmallEngine(size_t queue_limit = 1000, std::shared_ptr<Model> model = small_model())
      : SmallEngine(EngineOptions{.queue_limit = queue_limit}, std::move(model)) {}
  explicit SmallEngine(const EngineOptions& options, std::shared_ptr<Model> model = small_model())
      : Engine(std::move(model), small_vocabulary(), options) {}
};

// Runs to the end of the context; only a stop string or a limit ends it earlier.
inline RequestOptions endless(uint64_t seed = 1) {
  RequestOptions options;
  options.prompt = {1};
  options.sampling.temperature = 2.5f;  // the random model is very sure of itself
  options.sampling.top_p = 1;
  options.sampling.seed = seed * 0x9E3779B97F4A7C15u;
  return options;
}

// Never ends by itself.
inline RequestOptions infinite(uint64_t seed = 1) {
  RequestOptions options = endless(seed);
  options.overflow = Overflow::shift;
  return options;
}

inline FinishReason wait_for_end(Request& request) {
  const auto limit = Request::Clock::now() + std::chrono::minutes(3);  // sanitizers and emulations are slow
  while (request.finish_reason() == FinishReason::none && Request::Clock::now() < limit) request.wait(SIZE_MAX, 1);
  return request.finish_reason();
}

inline std::string text_of(Request& request) {
  std::string text;
  for (const std::string& piece : request.wait(0, 0).pieces) text += piece;
  return text;
}

template <class Condition>
bool soon(const Condition& condition) {
  const auto limit = Request::Clock::now() + std::chrono::seconds(10);
  while (!condition())
    if (Request::Clock::now() > limit) return false;
    else std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return true;
}

// While one lives, the engine computes nothing: an observer of another evaluation does not return.
class Pause {
 public:
  explicit Pause(Engine& engine) {
    std::promise<void> held;
    std::future<void> is_held = held.get_future();
    thread_ = std::thread([this, &engine, held = std::move(held)]() mutable {
      bool first = true;
      const std::vector<int32_t> ids = {1};
      engine.evaluate(ids, [](size_t, std::span<const float>) {}, [&](const Intermediate&) {
        if (!first) return;
        first = false;
        held.set_value();
        release_.get_future().wait();
      });
    });
    is_held.wait();
  }
  ~Pause() { end(); }
  void end() {
    if (!thread_.joinable()) return;
    release_.set_value();
    thread_.join();
  }

 private:
  std::promise<void> release_;
  std::thread thread_;
};

}  // namespace tinyzh::testing
