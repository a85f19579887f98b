#include "engine/engine.h"

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/fp_env.h"
#include "engine/backends.h"

namespace tinyzh {
namespace {

double seconds_since(Request::Clock::time_point start) {
  return std::chrono::duration<double>(Request::Clock::now() - start).count();
}

Scheduler::Limits limits_of(const EngineOptions& options, const Model& model, const Backend& backend) {
  if (options.streams < 1 || options.streams > backend.max_rows())
    fail(Code::invalid_argument, "streams is ", options.streams, ": expected 1 to ", backend.max_rows(), " on device ",
         device_name(model.device()));
  if (options.prompt_rows < 1) fail(Code::invalid_argument, "prompt_rows is 0: expected at least 1");
  return {options.streams, backend.max_rows(), options.prompt_rows, kBlockPositions};
}

size_t kv_bytes_of(const Model& model, const EngineOptions& options, const Backend& backend) {
  const size_t page = model.kv_layout().block_bytes();
  if (options.kv_bytes == 0) {  // every stream fills its context, but of free memory a quarter at most
    const size_t context = KvLayout::blocks(static_cast<size_t>(model.config().seq_len)) * page;
    return std::max(page, std::min(options.streams * context, std::max(context, backend.free_memory() / 4)));
  }
  if (options.kv_bytes < page)
    fail(Code::invalid_argument, "kv_cache is ", options.kv_bytes, " bytes: one page of ", kBlockPositions,
         " positions of this model takes ", page);
  return options.kv_bytes;
}

}  // namespace

Engine::Engine(std::shared_ptr<Model> model, Vocabulary vocabulary, const EngineOptions& options)
    : model_(std::move(model)),
      vocabulary_(std::move(vocabulary)),
      queue_limit_(options.queue_limit),
      has_thread_(options.own_thread),
      log_(options.log),
      backend_(make_backend(*model_)),
      scheduler_(limits_of(options, *model_, *backend_)),
      pages_(model_->kv_layout().block_bytes(), kv_bytes_of(*model_, options, *backend_), backend_->block_memory(),
             [this](std::byte* to, const std::byte* from, size_t bytes) { backend_->copy_block(to, from, bytes); }) {
  if (vocabulary_.size() != 0 && vocabulary_.size() != model_->config().vocab_size)
    fail(Code::tokenizer, "the tokenizer has ", vocabulary_.size(), " pieces, the model's vocabulary ",
         model_->config().vocab_size);
  report();
}

Engine::~Engine() { close(); }

void Engine::close() {
  {
    const std::scoped_lock lock(queue_mutex_);
    closed_ = true;
  }
  queue_changed_.notify_all();
  for (size_t i = 0;; ++i) {  // those that the engine has not come to, at once
    std::shared_ptr<Request> request;
    {
      const std::scoped_lock lock(queue_mutex_);
      if (i >= arrived_.size()) break;
      request = arrived_[i];
    }
    request->cancel();  // wakes its readers: no lock held
  }
  const std::scoped_lock lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
  if (!has_thread_) leave();
}

void Engine::check_tokens(std::span<const int32_t> ids) const {
  const int32_t vocab = model_->config().vocab_size;
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab)
      fail(Code::invalid_argument, "token ", i, " is ", ids[i], ": expected an id from 0 to ", vocab - 1);
}

void Engine::check_memory(const RequestOptions& options) const {
  const auto context = static_cast<size_t>(model_->config().seq_len);
  const size_t prompt = options.prompt.size();
  const bool endless = options.max_new_tokens < 0 && options.score_from == 0;
  const size_t most = endless ? context : static_cast<size_t>(std::max<int64_t>(0, options.max_new_tokens));
  const size_t positions = std::min(context, prompt + std::min(context, most));
  if (KvLayout::blocks(positions) > pages_.pool().limit())
    fail(Code::context_full, "the request can come to ", positions, " positions (", prompt, " of the prompt), whose keys and ",
         "values take ", KvLayout::blocks(positions) * pages_.pool().page_bytes(), " bytes, and kv_cache holds ",
         pages_.pool().limit() * pages_.pool().page_bytes(), ": raise kv_cache, or lower max_new_tokens");
}

void Engine::check_prompt(const RequestOptions& options) const {
  const auto context = static_cast<size_t>(model_->config().seq_len);
  if (options.prompt.empty()) fail(Code::invalid_argument, "the prompt has no tokens: expected at least BOS");
  check_tokens(options.prompt);
  if ((options.overflow == Overflow::stop || options.score_from != 0) && options.prompt.size() > context)
    fail(Code::context_full, "the prompt has ", options.prompt.size(), " tokens and the model's context is ", context,
         ": shorten the prompt by ", options.prompt.size() - context, " tokens");
  if (options.score_from >= options.prompt.size())
    fail(Code::invalid_argument, "score_from is ", options.score_from, ": expected less than the ", options.prompt.size(),
         " tokens of the text");
  check_memory(options);
}

std::shared_ptr<Request> Engine::submit(RequestOptions options) {
  if (!options.make_prompt) check_prompt(options);
  check_tokens(options.end_tokens);
  for (const auto& [token, bias] : options.sampling.logit_bias) check_tokens({&token, 1});
  for (const std::vector<std::string>* strings : {&options.stop, &options.bad_words})
    for (const std::string& s : *strings) {
      if (s.empty()) fail(Code::invalid_argument, "stop or bad_words holds an empty string: every text contains it; leave it out");
      if (vocabulary_.size() == 0) fail(Code::invalid_argument, "stop and bad_words are text: open the model with a tokenizer");
    }
  const auto request = std::make_shared<Request>(std::move(options), queue_);
  drop_late_arrivals();
  {
    const std::scoped_lock lock(queue_mutex_);
    if (closed_) fail(Code::closed, "the model is closed");
    if (*queue_ >= queue_limit_)
      fail(Code::queue_full, queue_->load(), " requests are waiting, as many as queue_limit allows: try again later");
    start_thread();
    arrived_.push_back(request);
    ++*queue_;
  }
  queue_changed_.notify_one();
  return request;
}

// When the queue is full, what ran out of time in it makes room, also while a step takes long.
void Engine::drop_late_arrivals() {
  if (*queue_ < queue_limit_) return;
  std::vector<std::shared_ptr<Request>> late;
  {
    const std::scoped_lock lock(queue_mutex_);
    for (const std::shared_ptr<Request>& request : arrived_)
      if (request->expired()) late.push_back(request);
  }
  for (const std::shared_ptr<Request>& request : late) request->finish(FinishReason::timeout);
}

void Engine::start_thread() {  // with the lock
  if (!has_thread_ || thread_.joinable()) return;
  try {
    thread_ = std::thread([this] { serve(); });
  } catch (const std::system_error& error) {
    fail(Code::backend, "the system starts no thread for the engine (", error.what(), "): end others, or raise its limit");
  }
}

void Engine::on_engine_thread(std::function<void()> run) {
  if (own_thread_ == std::this_thread::get_id()) return run();  // from a waker
  if (!has_thread_) fail(Code::invalid_argument, "this engine has no thread of its own to evaluate on");
  std::exception_ptr error;  // of the caller alone, once the job is done
  const auto caught = [&] {
    try {
      run();
    } catch (...) {
      error = std::current_exception();
    }
  };
  std::future<void> done;
  {
    const std::scoped_lock lock(queue_mutex_);
    if (closed_) fail(Code::closed, "the model is closed");
    start_thread();
    jobs_.push_back({caught, {}});
    done = jobs_.back().done.get_future();
  }
  queue_changed_.notify_one();
  done.get();
  if (error) std::rethrow_exception(std::move(error));
}

// ---- the engine's thread ------------------------------------------------------------------------------

void Engine::serve() {
  own_thread_ = std::this_thread::get_id();
  while (next(true)) {
    begin_step();
    proceed(ThreadPool::kNever);
  }
  own_thread_ = std::thread::id();
  leave();
}

size_t Engine::step(Clock::time_point deadline) {
  if (has_thread_) fail(Code::invalid_argument, "this engine has a thread of its own, which does the steps");
  do {
    if (step_.work.empty()) {
      if (!next(false)) break;
      begin_step();
    }
    if (step_.work.empty()) break;  // nothing to do
    if (!proceed(deadline)) break;
  } while (Clock::now() < deadline);
  const std::scoped_lock lock(queue_mutex_);
  return running_.size() + waiting_.size() + arrived_.size();
}

bool Engine::next(bool wait) {
  std::vector<Job> jobs;
  std::vector<std::shared_ptr<Request>> arrived;
  {
    std::unique_lock lock(queue_mutex_);
    queue_changed_.wait(lock, [this, wait] {
      return !wait || closed_ || !arrived_.empty() || !jobs_.empty() || !running_.empty() || !waiting_.empty();
    });
    if (closed_) return false;
    jobs.swap(jobs_);
    arrived.swap(arrived_);
  }
  for (Job& job : jobs) {
    job.run();  // does not throw
    job.done.set_value();
  }
  for (std::shared_ptr<Request>& request : arrived) {
    try {
      if (!request->make_prompt()) continue;
      if (request->options().make_prompt) check_prompt(request->options());
      enlist(std::make_unique<Sequence>(request, arrivals_++, *model_, vocabulary_, pages_), waiting_);
    } catch (...) {
      request->fail_with(std::current_exception());
    }
  }
  return true;
}

void Engine::leave() {
  step_.work.clear();
  std::vector<Job> jobs;
  std::vector<std::shared_ptr<Request>> arrived;
  {
    const std::scoped_lock lock(queue_mutex_);
    jobs.swap(jobs_);
    arrived.swap(arrived_);
  }
  for (Job& job : jobs) {
    try {
      fail(Code::closed, "the model is closed");
    } catch (...) {
      job.done.set_exception(std::current_exception());
    }
  }
  for (const std::shared_ptr<Request>& request : arrived) request->cancel();
  for (Sequences* sequences : {&waiting_, &running_}) {
    for (const std::unique_ptr<Sequence>& sequence : *sequences) sequence->request().cancel();
    sequences->clear();
  }
  report();
}

void Engine::begin_step() {
  step_ = {};
  const Clock::time_point start = Clock::now();
  drop_interrupted(waiting_);
  drop_interrupted(running_);
  try {
    admit();
    step_.work = plan();
    if (!step_.work.empty()) begin_pass();
  } catch (...) {
    fail_step();
  }
  step_.other_seconds = seconds_since(start);
  if (step_.work.empty()) report();
}

bool Engine::proceed(Clock::time_point deadline) {
  if (step_.work.empty()) return true;
  const StandardFloatingPoint standard;
  if (!step_.computed) {
    const Clock::time_point start = Clock::now();
    step_.computed = backend_->proceed(deadline);
    step_.forward_seconds += seconds_since(start);
    if (!step_.computed || Clock::now() >= deadline) return false;
  }
  const Clock::time_point start = Clock::now();
  const auto vocab = static_cast<size_t>(model_->config().vocab_size);
  auto look = [&](size_t i, size_t) {
    outcomes_[i] = places_[i].sequence->look(places_[i].index, std::span(logits_).subspan(i * vocab, vocab));
  };
  step_.looked = model_->pool().run_until(step_.looked, places_.size(), look, deadline);
  const bool done = step_.looked == places_.size();
  if (done) end_step();
  step_.other_seconds += seconds_since(start);
  return done;
}

void Engine::end_step() {
  const Clock::time_point start = Clock::now();
  Metrics::Step done;
  try {
    done.new_tokens = publish();
    done.prompt_tokens = rows_.size() - done.new_tokens;
  } catch (...) {
    fail_step();
  }
  step_.work.clear();
  done.end = Clock::now();
  done.forward_seconds = step_.forward_seconds;
  done.seconds = step_.forward_seconds + step_.other_seconds + seconds_since(start);
  metrics_.add(done);
  report();
}

// Memory is short, or the file was cut: nothing of this step counts.
void Engine::fail_step() {
  Sequences& at_fault = running_.empty() ? waiting_ : running_;
  const size_t count = at_fault.size();
  for (const std::unique_ptr<Sequence>& sequence : at_fault) sequence->fail(std::current_exception());
  at_fault.clear();
  step_.work.clear();
  try {
    if (log_) log_(LogLevel::warning, concat("a step failed, and with it ", count, " requests"));
  } catch (...) {  // no memory for the message either
  }
}

void Engine::enlist(std::unique_ptr<Sequence> sequence, Sequences& among) {
  const Stream stream = sequence->stream();
  const auto place = std::partition_point(among.begin(), among.end(), [&](const std::unique_ptr<Sequence>& other) {
    return Scheduler::before(other->stream(), stream);
  });
  among.insert(place, std::move(sequence));
}

void Engine::drop_interrupted(Sequences& sequences) {
  const Clock::time_point now = Clock::now();
  std::erase_if(sequences, [now](const std::unique_ptr<Sequence>& sequence) { return sequence->interrupted(now); });
}

std::vector<Stream> Engine::running_streams() const {
  std::vector<Stream> streams;
  for (const std::unique_ptr<Sequence>& sequence : running_) streams.push_back(sequence->stream());
  return streams;
}

// Whether a stream that runs, and is served before this one, is about to compute pages that this one needs too: then
// it waits for them.
bool Engine::about_to_be_shared(const Sequence& first) const {
  const std::span<const int32_t> tokens = first.window().tokens().first(first.most_reusable());
  for (const std::unique_ptr<Sequence>& other : running_) {
    if (!Scheduler::before(other->stream(), first.stream())) return false;
    const Window& window = other->window();
    const size_t same = common_beginning(tokens, window.tokens()) / kBlockPositions * kBlockPositions;
    if (same > window.computed() && same > first.shareable_prefix()) return true;
  }
  return false;
}

void Engine::admit() {
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
        preempt(running_.size() - 1);
        break;
      case Scheduler::Admission::wait:
        first.let_go();
        return;
    }
  }
}

void Engine::preempt(size_t index) {
  std::unique_ptr<Sequence> sequence = std::move(running_[index]);
  running_.erase(running_.begin() + static_cast<ptrdiff_t>(index));
  sequence->let_go();
  metrics_.add_preemption();
  if (log_) log_(LogLevel::info, concat("a request gave way; ", running_.size(), " run"));
  enlist(std::move(sequence), waiting_);
}

std::vector<Engine::Work> Engine::plan() {
  for (;;) {
    const Scheduler::Allotment allotment = scheduler_.allot(running_streams(), pages_.available());
    if (allotment.preempt) {
      preempt(*allotment.preempt);
      continue;
    }
    std::vector<Work> work;
    for (size_t i = 0; i < running_.size(); ++i)
      if (const size_t rows = allotment.rows[i]; rows > 0 && running_[i]->reserve(rows))
        work.push_back({running_[i].get(), rows, 0});
    return work;
  }
}

void Engine::begin_pass() {
  model_->check_source();
  rows_.clear();
  places_.clear();
  for (Work& w : step_.work) {
    const Window& window = w.sequence->window();
    for (size_t i = window.computed(); i < window.computed() + w.rows; ++i) {
      const bool wanted = w.sequence->wants_logits(i);
      w.logits += wanted;
      if (wanted) places_.push_back({w.sequence, i});
      rows_.push_back({window.tokens()[i], static_cast<int32_t>(i), window.table(), wanted});
    }
  }
  logits_.resize(places_.size() * static_cast<size_t>(model_->config().vocab_size));
  outcomes_.resize(places_.size());
  backend_->begin(rows_, logits_.data());
}

size_t Engine::publish() {
  size_t drawn = 0;
  std::span<Sequence::Outcome> outcomes = outcomes_;
  std::vector<const Sequence*> over;
  for (const Work& w : step_.work) {
    Sequence& sequence = *w.sequence;
    const int64_t before = sequence.drawn();
    if (sequence.advance(w.rows, outcomes.first(w.logits))) over.push_back(&sequence);
    outcomes = outcomes.subspan(w.logits);
    drawn += static_cast<size_t>(sequence.drawn() - before);
    if (before == 0 && sequence.drawn() == 1) metrics_.add_first_token(sequence.request().timing().first_token);
  }
  if (!over.empty())
    std::erase_if(running_, [&](const std::unique_ptr<Sequence>& s) {
      return std::find(over.begin(), over.end(), s.get()) != over.end();
    });
  return drawn;
}

void Engine::report() {
  const PagePool& pool = pages_.pool();
  metrics_.set_state({running_.size(), waiting_.size(), pool.used(), pool.limit(), pages_.prefixes().reclaimable(),
                      pool.allocated(), pool.page_bytes()});
}

void Engine::evaluate(std::span<const int32_t> ids,
                      const std::function<void(size_t, std::span<const float>)>& use, const Observer& observer) {
  const Config& config = model_->config();
  check_tokens(ids);
  if (ids.size() > static_cast<size_t>(config.seq_len))
    fail(Code::context_full, ids.size(), " tokens do not fit the model's context of ", config.seq_len);
  KvCache cache(model_->kv_layout(), backend_->block_memory());
  cache.reserve(ids.size());
  const auto vocab = static_cast<size_t>(config.vocab_size);
  const size_t most = backend_->max_rows();
  std::vector<float> logits(std::min(ids.size(), most) * vocab);
  std::vector<Row> rows;
  for (size_t first = 0; first < ids.size(); first += rows.size()) {
    rows.clear();
    for (size_t i = first; i < std::min(first + most, ids.size()); ++i)
      rows.push_back({ids[i], static_cast<int32_t>(i), cache.table(), true});
    on_engine_thread([&] {
      model_->check_source();
      backend_->run(rows, logits.data(), observer);
      use(first, {logits.data(), rows.size() * vocab});
    });
  }
}

}  // namespace tinyzh
