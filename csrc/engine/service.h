// Serves requests step by step: who joins, one forward pass over a row of each that draws and some rows of the prompts
// of those that have just come, who leaves.  Where the device draws, passes are begun before it is known what the one
// before has drawn.  One thread at a time.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/metrics.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/window.h"
#include "model/backend.h"
#include "model/model.h"
#include "text/vocabulary.h"

namespace tinyzh {

enum class LogLevel { info, warning };

class Service {
 public:
  using Clock = Request::Clock;
  using Log = std::function<void(LogLevel, const std::string& message)>;

  // All of these stay as long as it does.
  Service(Model& model, const Vocabulary& vocabulary, Backend& backend, Pages& pages, const Scheduler& scheduler,
          Metrics& metrics, const Log& log);

  // It waits from now on.  Throws Error(Code::context_full), std::bad_alloc.
  void add(std::shared_ptr<Request> request);

  size_t requests() const { return waiting_.size() + running_.size(); }
  bool is_idle() const { return requests() == 0 && under_way_.empty(); }
  bool computes() const { return !under_way_.empty(); }

  // Begins passes, as many as may be under way.
  void begin();
  // Works on the oldest until it is over and its tokens are published, or until the deadline.  True: it is over, or there
  // is none.
  bool proceed(Clock::time_point deadline);
  void cancel_all();  // and no pass is under way

 private:
  using Sequences = std::vector<std::unique_ptr<Sequence>>;  // in the order of service

  // What a step computes of one sequence.
  struct Work {
    Sequence* sequence;     // null: it has left meanwhile, and nobody looks
    size_t rows;            // tokens
    size_t logits = 0;      // and those of them whose logits are looked at
    bool draws = false;     // on the device
  };
  struct Place {  // of a row of logits
    size_t work, index;
  };
  // A pass over some rows, then a look at each row of logits.
  struct Step {
    std::vector<Work> work;
    std::vector<Row> rows;
    std::vector<float> logits;                // (rows that want them, vocab_size)
    std::vector<Place> places;                // of those rows
    std::vector<Sequence::Outcome> outcomes;  // what they say
    double forward_seconds = 0, other_seconds = 0;
    bool computed = false;
    size_t looked = 0;  // rows of logits

    void clear();
  };

  void enlist(std::unique_ptr<Sequence> sequence, Sequences& among);
  void drop_interrupted();
  template <class Gone>
  void let_leave(const Gone& gone);
  void admit();
  bool about_to_be_shared(const Sequence& first) const;
  void preempt(size_t index);
  bool waits_for_the_host() const;
  void plan(Step& step);
  void begin_pass(Step& step);
  void end_step();
  void fail_step();
  size_t publish(Step& step, size_t& rows);
  void report();
  std::vector<Stream> running_streams() const;

  Model& model_;
  const Vocabulary& vocabulary_;
  Backend& backend_;
  Pages& pages_;
  const Scheduler& scheduler_;
  Metrics& metrics_;
  const Log& log_;
  Sequences waiting_, running_;  // waiting_: preempted ones too
  uint64_t arrivals_ = 0;
  std::deque<Step> under_way_;   // the oldest first
  std::vector<Step> spare_;      // with their memory
};

}  // namespace tinyzh
