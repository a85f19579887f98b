// Serves the requests of one model together, on a thread of its own: each step is one forward pass over one row of
// every stream that draws tokens and some rows of the prompts of those that have just come (service.h).  What a request
// gets is what it would get alone; only the time it takes depends on the others.
//
// Or without a thread, for a game that gives it a share of every tick: step() works so long and no longer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "engine/metrics.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/service.h"
#include "engine/window.h"
#include "model/backend.h"
#include "model/model.h"
#include "text/vocabulary.h"

namespace tinyzh {

struct EngineOptions {
  size_t queue_limit = 1024;  // requests that may wait
  size_t streams = 64;        // that run together, as many as a pass of the device has rows at most
  size_t kv_bytes = 0;        // for keys and values; 0: enough for all streams, at most a quarter of what is free
  size_t prompt_rows = 64;    // prompt tokens of a step while others draw
  bool own_thread = true;     // false: the caller's calls of step() do the work
  int ahead = -1;             // passes begun before it is known what the last one drew, where the device draws, 0 to 8;
                              // -1: TINYZH_AHEAD, else 2
  Service::Log log = {};  // called by who does the work
};

class Engine {
 public:
  using Clock = Request::Clock;

  // `vocabulary` has config.vocab_size entries or none (then requests have tokens but no text).  A model has one
  // engine at a time: its threads serve one forward pass.  Throws Error: invalid_argument, tokenizer.
  Engine(std::shared_ptr<Model> model, Vocabulary vocabulary, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Returns at once.  Throws Error: invalid_argument, context_full, queue_full, closed; with options.make_prompt what
  // is wrong with the prompt is the request's error instead.
  std::shared_ptr<Request> submit(RequestOptions options);

  // Calls `use(first, logits)` with the logits (n, vocab_size) of the n tokens ids[first ...], chunk by chunk; every
  // intermediate of a chunk goes to `observer` before.  Both run on the engine's thread, between the steps of
  // requests; keys and values take memory of their own meanwhile.
  void evaluate(std::span<const int32_t> ids, const std::function<void(size_t first, std::span<const float> logits)>& use,
                const Observer& observer = {});

  // Without a thread of its own: works until the deadline, and a quarter of a millisecond at most beyond it; always
  // does something, if there is something to do.  One caller at a time.  Returns how many requests are not over yet.
  size_t step(Clock::time_point deadline);

  // Cancels everything and stops the thread, so it must not be called on it (from a waker).  Later calls
  // of the others throw Error(Code::closed).
  void close();

  // Throws Error(Code::invalid_argument) that names the first that is no token of the model.
  void check_tokens(std::span<const int32_t> ids) const;

  const Model& model() const { return *model_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  size_t waiting() const { return *queue_; }
  size_t ahead() const { return backend_->depth() - 1; }  // passes that may be begun while one is under way
  Stats stats() const { return metrics_.stats(); }

 private:
  struct Job {
    std::function<void()> run;
    std::promise<void> done;
  };

  void serve();
  bool next(bool wait);   // takes what came, and does jobs; false: closed
  void leave();           // cancels all
  void start_thread();
  void check_prompt(const RequestOptions& options) const;
  void check_memory(const RequestOptions& options) const;
  void drop_late_arrivals();
  void on_engine_thread(std::function<void()> job);

  const std::shared_ptr<Model> model_;
  const Vocabulary vocabulary_;
  const size_t queue_limit_;
  const bool has_thread_;
  const Service::Log log_;
  const std::shared_ptr<std::atomic<size_t>> queue_ = std::make_shared<std::atomic<size_t>>(0);  // requests that wait
  const std::unique_ptr<Backend> backend_;  // of the engine's thread alone, too
  const Scheduler scheduler_;
  Metrics metrics_;

  // Of the engine's thread alone.
  Pages pages_;
  Service service_;

  // Never held while something is computed, nor while a waker or a destructor of a request may run: those may
  // wait for other locks.
  std::mutex queue_mutex_;  // guards what follows
  std::condition_variable queue_changed_;
  std::vector<std::shared_ptr<Request>> arrived_;  // since the last step
  std::vector<Job> jobs_;
  bool closed_ = false;

  std::mutex join_mutex_;  // two may close at the same time
  std::atomic<std::thread::id> own_thread_{};
  std::thread thread_;  // started by the first request
};

}  // namespace tinyzh
