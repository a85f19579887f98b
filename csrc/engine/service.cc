#include "engine/service.h"

#include <algorithm>

#include "base/error.h"
#include "base/fp_env.h"

namespace tinyzh {
namespace {

double seconds_since(Request::Clock::time_point start) {
  return std::chrono::duration<double>(Request::Clock::now() - start).count();
}

}  // namespace

void Service::Step::clear() {
  work.clear();
  rows.clear();
  logits.clear();
  places.clear();
  outcomes.clear();
  forward_seconds = other_seconds = 0;
  computed = false;
  looked = 0;
}

Service::Service(Model& model, const Vocabulary& vocabulary, Backend& backend, Pages& pages, const Scheduler& scheduler,
                 Metrics& metrics, const Log& log)
    : model_(model), vocabulary_(vocabulary), backend_(backend), pages_(pages), scheduler_(scheduler), metrics_(metrics), log_(log) {
  spare_.reserve(backend_.depth() + 1);  // so that keeping a step cannot fail
  report();
}

void Service::add(std::shared_ptr<Request> request) {
  enlist(std::make_unique<Sequence>(std::move(request), arrivals_++, model_, vocabulary_, pages_, backend_), waiting_);
}

void Service::begin() {
  if (under_way_.size() == backend_.depth()) return;
  const Clock::time_point start = Clock::now();
  drop_interrupted();
  bool begun = false;
  while (under_way_.size() < backend_.depth() && !waits_for_the_host()) {
    try {
      admit();
      if (spare_.empty()) spare_.emplace_back();
      under_way_.push_back(std::move(spare_.back()));
      spare_.pop_back();
      Step& step = under_way_.back();
      step.clear();
      plan(step);
      if (step.work.empty()) {
        spare_.push_back(std::move(step));
        under_way_.pop_back();
        break;
      }
      begin_pass(step);
      begun = true;
    } catch (...) {
      fail_step();
      break;
    }
  }
  if (!under_way_.empty()) under_way_.front().other_seconds += seconds_since(start);
  if (!begun) report();
}

bool Service::proceed(Clock::time_point deadline) {
  if (under_way_.empty()) return true;
  const StandardFloatingPoint standard;
  Step& step = under_way_.front();
  if (!step.computed) {
    const Clock::time_point start = Clock::now();
    try {
      step.computed = backend_.proceed(deadline);
    } catch (...) {
      fail_step();
      return true;
    }
    step.forward_seconds += seconds_since(start);
    if (!step.computed || Clock::now() >= deadline) return false;
  }
  const Clock::time_point start = Clock::now();
  const auto vocab = static_cast<size_t>(model_.config().vocab_size);
  auto look = [&](size_t i, size_t) {
    if (Sequence* sequence = step.work[step.places[i].work].sequence)
      step.outcomes[i] = sequence->look(step.places[i].index, std::span(step.logits).subspan(i * vocab, vocab));
  };
  step.looked = model_.pool().run_until(step.looked, step.places.size(), look, deadline);
  const bool done = step.looked == step.places.size();
  step.other_seconds += seconds_since(start);
  if (done) end_step();
  return done;
}

void Service::cancel_all() {
  under_way_.clear();
  backend_.abandon();
  for (Sequences* sequences : {&waiting_, &running_}) {
    for (const std::unique_ptr<Sequence>& sequence : *sequences) sequence->request().cancel();
    sequences->clear();
  }
  report();
}

void Service::end_step() {
  const Clock::time_point start = Clock::now();
  Metrics::Step done;
  size_t rows = 0;
  Step& step = under_way_.front();
  try {
    done.new_tokens = publish(step, rows);
  } catch (...) {
    return fail_step();
  }
  done.prompt_tokens = rows - done.new_tokens;
  done.end = Clock::now();
  done.forward_seconds = step.forward_seconds;
  done.seconds = step.forward_seconds + step.other_seconds + seconds_since(start);
  spare_.push_back(std::move(step));
  under_way_.pop_front();
  if (rows > 0) metrics_.add(done);
  report();
}

// Memory is short, the file was cut, or the device has failed: nothing that is under way counts.
void Service::fail_step() {
  under_way_.clear();
  backend_.abandon();
  Sequences& at_fault = running_.empty() ? waiting_ : running_;
  const size_t count = at_fault.size();
  for (const std::unique_ptr<Sequence>& sequence : at_fault) sequence->fail(std::current_exception());
  at_fault.clear();
  report();
  try {
    if (log_) log_(LogLevel::warning, concat("a step failed, and with it ", count, " requests"));
  } catch (...) {  // no memory for the message either
  }
}

void Service::enlist(std::unique_ptr<Sequence> sequence, Sequences& among) {
  const Stream stream = sequence->stream();
  const auto place = std::partition_point(among.begin(), among.end(), [&](const std::unique_ptr<Sequence>& other) {
    return Scheduler::before(other->stream(), stream);
  });
  among.insert(place, std::move(sequence));
}

// Those who run and are gone: what passes under way compute of them is nobody's any more.  (Their pages and slots may
// serve others at once, since the device does one thing after the other.)
template <class Gone>
void Service::let_leave(const Gone& gone) {
  for (Step& step : under_way_)
    for (Work& work : step.work)
      if (work.sequence && gone(*work.sequence)) work.sequence = nullptr;
  std::erase_if(running_, [&](const std::unique_ptr<Sequence>& sequence) { return gone(*sequence); });
}

void Service::drop_interrupted() {
  const Clock::time_point now = Clock::now();
  const auto interrupted = [now](const std::unique_ptr<Sequence>& sequence) { return sequence->interrupt(now); };
  std::erase_if(waiting_, interrupted);
  if (std::count_if(running_.begin(), running_.end(), interrupted) > 0)
    let_leave([](const Sequence& sequence) { return sequence.is_over(); });
}

std::vector<Stream> Service::running_streams() const {
  std::vector<Stream> streams;
  for (const std::unique_ptr<Sequence>& sequence : running_) streams.push_back(sequence->stream());
  return streams;
}

// Whether a pass that is under way has logits for the host to look at: a pass behind it would have to do without whose
// they are.
bool Service::waits_for_the_host() const {
  return std::any_of(under_way_.begin(), under_way_.end(), [](const Step& step) { return !step.places.empty(); });
}

// Whether a stream that runs, and is served before this one, is about to compute pages that this one needs too: then
// it waits for them.
bool Service::about_to_be_shared(const Sequence& first) const {
  const std::span<const int32_t> tokens = first.window().tokens().first(first.most_reusable());
  for (const std::unique_ptr<Sequence>& other : running_) {
    if (!Scheduler::before(other->stream(), first.stream())) return false;
    const Window& window = other->window();
    const size_t same = common_beginning(tokens, window.tokens()) / kBlockPositions * kBlockPositions;
    if (same > window.computed() && same > first.shareable_prefix()) return true;
  }
  return false;
}

void Service::admit() {
  for (size_t i = 0; i < waiting_.size();) {
    const std::vector<Stream> running = running_streams();
    Sequence& first = *waiting_[i];
    if (running.size() == scheduler_.limits().streams && first.stream().priority <= running.back().priority) return;
    if (about_to_be_shared(first)) {
      ++i;
      continue;
    }
    first.share_prefix();
    switch (scheduler_.admission(first.stream(), running, pages_.available())) {
      case Scheduler::Admission::admit: {
        std::unique_ptr<Sequence> admitted = std::move(waiting_[i]);
        waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
        try {
          admitted->start();
          metrics_.add_request(admitted->window().computed());
          enlist(std::move(admitted), running_);
        } catch (...) {
          if (admitted) admitted->fail(std::current_exception());
        }
        break;
      }
      case Scheduler::Admission::preempt_last:
        first.let_go();
        if (computes()) return;  // first what is under way: it may end
        preempt(running_.size() - 1);
        break;
      case Scheduler::Admission::wait:
        first.let_go();
        return;
    }
  }
}

void Service::preempt(size_t index) {
  std::unique_ptr<Sequence> sequence = std::move(running_[index]);
  running_.erase(running_.begin() + static_cast<ptrdiff_t>(index));
  sequence->let_go();
  metrics_.add_preemption();
  if (log_) log_(LogLevel::info, concat("a request gave way; ", running_.size(), " run"));
  enlist(std::move(sequence), waiting_);
}

void Service::plan(Step& step) {
  for (;;) {
    const Scheduler::Allotment allotment = scheduler_.allot(running_streams(), pages_.available());
    if (!allotment.preempt) {
      for (size_t i = 0; i < running_.size(); ++i)
        if (const size_t rows = allotment.rows[i]; rows > 0 && running_[i]->reserve(rows))
          step.work.push_back({running_[i].get(), rows});
      return;
    }
    if (under_way_.size() > 1) return;  // first what is under way before this step: it may end
    preempt(*allotment.preempt);
  }
}

void Service::begin_pass(Step& step) {
  model_.check_source();
  for (size_t w = 0; w < step.work.size(); ++w) {
    Work& work = step.work[w];
    const Sequence& sequence = *work.sequence;
    const size_t first = sequence.begun();
    for (size_t i = first; i < first + work.rows; ++i) {
      Row row = sequence.row(i);
      if (row.wants_logits) step.places.push_back({w, i});
      work.logits += row.wants_logits;
      work.draws |= row.draws_to >= 0;
      step.rows.push_back(row);
    }
  }
  step.logits.resize(step.places.size() * static_cast<size_t>(model_.config().vocab_size));
  step.outcomes.resize(step.places.size());
  backend_.begin(step.rows, step.logits.data());
  for (const Work& work : step.work) work.sequence->begin(work.rows, work.draws);
}

// Returns how many tokens were drawn; rows: of those who are still there.
size_t Service::publish(Step& step, size_t& rows) {
  size_t new_tokens = 0;
  std::span<Sequence::Outcome> outcomes = step.outcomes;
  std::span<const Drawn> drawn = backend_.drawn();
  bool some_leave = false;
  for (const Work& work : step.work) {
    const std::span<Sequence::Outcome> looked = outcomes.first(work.logits);
    outcomes = outcomes.subspan(work.logits);
    const std::span<const Drawn> own = drawn.first(work.draws ? 1 : 0);
    drawn = drawn.subspan(own.size());
    if (!work.sequence) continue;
    Sequence& sequence = *work.sequence;
    const int64_t before = sequence.drawn();
    if (own.empty()) {
      some_leave |= sequence.advance(work.rows, looked);
    } else {
      Sequence::Outcome outcome = sequence.outcome_of(own.front());
      some_leave |= sequence.advance(work.rows, {&outcome, 1});
    }
    rows += work.rows;
    new_tokens += static_cast<size_t>(sequence.drawn() - before);
    if (before == 0 && sequence.drawn() == 1) metrics_.add_first_token(sequence.request().timing().first_token);
  }
  if (some_leave) let_leave([](const Sequence& sequence) { return sequence.is_over(); });
  return new_tokens;
}

void Service::report() {
  const PagePool& pool = pages_.pool();
  metrics_.set_state({running_.size(), waiting_.size(), pool.used(), pool.limit(), pages_.prefixes().reclaimable(),
                      pool.allocated(), pool.page_bytes()});
}

}  // namespace tinyzh
