// Serves requests on a thread of its own, in the order of their arrival, one after another.  A model has one
// engine at a time: its threads serve one forward pass.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include "engine/request.h"
#include "model/forward.h"
#include "model/model.h"
#include "text/vocabulary.h"

namespace tinyzh {

class Engine {
 public:
  // `vocabulary` has config.vocab_size entries or none (then requests have tokens but no text).
  Engine(std::shared_ptr<Model> model, Vocabulary vocabulary, size_t queue_limit);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws Error: invalid_argument, context_full, queue_full, closed.  Returns at once.
  std::shared_ptr<Request> submit(RequestOptions options);

  // Calls `use(first, logits)` with the logits (n, vocab_size) of the n tokens ids[first ...], chunk by
  // chunk; every intermediate of a chunk goes to `observer` before.  Runs on the calling thread, between
  // the steps of requests.
  void evaluate(std::span<const int32_t> ids, const std::function<void(size_t first, std::span<const float> logits)>& use,
                const Observer& observer = {});

  // Cancels everything and stops the thread, so it must not be called on it (from a waker).  Later calls
  // of the others throw Error(Code::closed).
  void close();
  bool on_own_thread() const { return own_thread_.load() == std::this_thread::get_id(); }

  const Model& model() const { return *model_; }
  const Vocabulary& vocabulary() const { return vocabulary_; }
  size_t waiting() const;

 private:
  void serve();
  void generate(Request& request);
  void compute(std::span<const Row> rows, float* logits, const Observer& observer = {});
  void check_tokens(std::span<const int32_t> ids) const;

  std::shared_ptr<Model> model_;
  const Vocabulary vocabulary_;
  const size_t queue_limit_;

  std::mutex compute_mutex_;  // one forward pass at a time
  Forward forward_;

  // Never held while a waker or a destructor of a request may run: those may wait for other locks.
  mutable std::mutex queue_mutex_;  // guards the queue, running_, closed_ and the start of thread_
  std::condition_variable queue_changed_;
  std::deque<std::shared_ptr<Request>> queue_;
  std::shared_ptr<Request> running_;
  bool closed_ = false;
  std::mutex join_mutex_;           // two may close at the same time
  std::atomic<std::thread::id> own_thread_{};
  std::thread thread_;  // started by the first request
};

}  // namespace tinyzh
