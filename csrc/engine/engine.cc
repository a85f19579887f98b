#include "engine/engine.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <system_error>

#include "base/error.h"
#include "engine/backends.h"

namespace tinyzh {
namespace {

// How many passes may be begun before the last one's tokens are known.
size_t ahead_of(const EngineOptions& options) {
  constexpr int kMost = 8;
  constexpr size_t kDefault = 2;
  const auto check = [=](int n, std::string_view what, std::string_view text) {
    if (n < 0 || n > kMost) fail(Code::invalid_argument, what, " is ", text, ": expected a number of passes from 0 to ", kMost);
    return static_cast<size_t>(n);
  };
  if (options.ahead >= 0) return check(options.ahead, "ahead", std::to_string(options.ahead));
  const char* variable = std::getenv("TINYZH_AHEAD");
  if (!variable || !*variable) return kDefault;
  const std::string_view text = variable;
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return check(error == std::errc() && end == text.data() + text.size() ? n : -1, "TINYZH_AHEAD", text);
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
      backend_(make_backend(*model_, ahead_of(options))),
      scheduler_(limits_of(options, *model_, *backend_)),
      pages_(model_->kv_layout().block_bytes(), kv_bytes_of(*model_, options, *backend_), backend_->block_memory(),
             [this](std::byte* to, const std::byte* from, size_t bytes) { backend_->copy_block(to, from, bytes); }),
      service_(*model_, vocabulary_, *backend_, pages_, scheduler_, metrics_, log_) {
  if (vocabulary_.size() != 0 && vocabulary_.size() != model_->config().vocab_size)
    fail(Code::tokenizer, "the tokenizer has ", vocabulary_.size(), " pieces, the model's vocabulary ",
         model_->config().vocab_size);
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
    service_.begin();
    service_.proceed(ThreadPool::kNever);
  }
  own_thread_ = std::thread::id();
  leave();
}

size_t Engine::step(Clock::time_point deadline) {
  if (has_thread_) fail(Code::invalid_argument, "this engine has a thread of its own, which does the steps");
  do {
    if (!next(false)) break;
    service_.begin();
    if (!service_.computes()) break;  // nothing to do
    if (!service_.proceed(deadline)) break;
  } while (Clock::now() < deadline);
  const std::scoped_lock lock(queue_mutex_);
  return service_.requests() + arrived_.size();
}

bool Engine::next(bool wait) {
  std::vector<Job> jobs;
  std::vector<std::shared_ptr<Request>> arrived;
  {
    std::unique_lock lock(queue_mutex_);
    queue_changed_.wait(lock, [this, wait] {
      return !wait || closed_ || !arrived_.empty() || !jobs_.empty() || !service_.is_idle();
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
      service_.add(request);
    } catch (...) {
      request->fail_with(std::current_exception());
    }
  }
  return true;
}

void Engine::leave() {
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
  service_.cancel_all();
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
