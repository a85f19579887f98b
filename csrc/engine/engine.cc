#include "engine/engine.h"

#include <algorithm>

#include "base/error.h"
#include "text/bad_words.h"
#include "text/stop_strings.h"
#include "text/utf8.h"

namespace tinyzh {
namespace {

uint64_t fnv1a(std::span<const float> values) {
  uint64_t hash = 0xcbf29ce484222325ull;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size_bytes(); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
  return hash;
}

// Token ids in, certain text out: bytes -> whole characters -> up to a stop string.
class TextStream {
 public:
  TextStream(const Vocabulary& vocabulary, const RequestOptions& options)
      : vocabulary_(vocabulary), stop_(options.stop), trim_space_(options.trim_first_space) {}

  std::string push(int32_t token) {
    if (vocabulary_.size() == 0) return {};
    std::string_view bytes = vocabulary_[token].bytes;
    if (trim_space_ && !bytes.empty()) {
      if (bytes.front() == ' ') bytes.remove_prefix(1);
      trim_space_ = false;
    }
    std::string characters;
    assembler_.push(bytes, characters);
    return stop_.push(characters);
  }
  std::string finish() {
    std::string rest;
    assembler_.finish(rest);
    std::string text = stop_.push(rest);
    return text + stop_.finish();
  }
  bool stopped() const { return stop_.found(); }

 private:
  const Vocabulary& vocabulary_;
  Utf8Assembler assembler_;
  StopStrings stop_;
  bool trim_space_;
};

}  // namespace

Engine::Engine(std::shared_ptr<Model> model, Vocabulary vocabulary, size_t queue_limit)
    : model_(std::move(model)),
      vocabulary_(std::move(vocabulary)),
      queue_limit_(queue_limit),
      forward_(model_->weights(), model_->kv_layout().type, model_->kernels(), model_->pool()) {
  if (vocabulary_.size() != 0 && vocabulary_.size() != model_->config().vocab_size)
    fail(Code::tokenizer, "the tokenizer has ", vocabulary_.size(), " pieces, the model's vocabulary ",
         model_->config().vocab_size);
}

Engine::~Engine() { close(); }

void Engine::close() {
  std::deque<std::shared_ptr<Request>> dropped;
  {
    const std::scoped_lock lock(queue_mutex_);
    closed_ = true;
    dropped.swap(queue_);
    if (running_) dropped.push_back(running_);
  }
  queue_changed_.notify_all();
  for (const std::shared_ptr<Request>& request : dropped) request->cancel();  // wakes its readers: no lock held
  const std::scoped_lock lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

void Engine::check_tokens(std::span<const int32_t> ids) const {
  const int32_t vocab = model_->config().vocab_size;
  for (size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab)
      fail(Code::invalid_argument, "token ", i, " is ", ids[i], ": expected an id from 0 to ", vocab - 1);
}

std::shared_ptr<Request> Engine::submit(RequestOptions options) {
  const auto context = static_cast<size_t>(model_->config().seq_len);
  if (options.prompt.empty()) fail(Code::invalid_argument, "the prompt has no tokens: expected at least BOS");
  check_tokens(options.prompt);
  check_tokens(options.end_tokens);
  for (const auto& [token, bias] : options.sampling.logit_bias) check_tokens({&token, 1});
  if (options.prompt.size() > context)
    fail(Code::context_full, "the prompt has ", options.prompt.size(), " tokens and the model's context is ", context,
         ": shorten the prompt by ", options.prompt.size() - context, " tokens");
  for (const std::vector<std::string>* strings : {&options.stop, &options.bad_words})
    for (const std::string& s : *strings) {
      if (s.empty()) fail(Code::invalid_argument, "stop or bad_words holds an empty string: every text contains it; leave it out");
      if (vocabulary_.size() == 0) fail(Code::invalid_argument, "stop and bad_words are text: open the model with a tokenizer");
    }
  auto request = std::make_shared<Request>(std::move(options));
  std::vector<std::shared_ptr<Request>> over;  // those are told, and let go, outside the lock
  {
    const std::scoped_lock lock(queue_mutex_);
    if (closed_) fail(Code::closed, "the model is closed");
    if (queue_.size() >= queue_limit_) {  // who was cancelled or ran out of time waits no more
      const auto alive = [](const std::shared_ptr<Request>& r) {
        return r->finish_reason() == FinishReason::none && !r->expired();
      };
      const auto end = std::stable_partition(queue_.begin(), queue_.end(), alive);
      over.assign(end, queue_.end());
      queue_.erase(end, queue_.end());
    }
    if (queue_.size() >= queue_limit_)
      fail(Code::queue_full, queue_.size(), " requests are waiting, as many as queue_limit allows: try again later");
    if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
    queue_.push_back(request);
  }
  queue_changed_.notify_one();
  for (const std::shared_ptr<Request>& r : over) r->finish(FinishReason::timeout);  // unless it was over before
  return request;
}

size_t Engine::waiting() const {
  const std::scoped_lock lock(queue_mutex_);
  return queue_.size();
}

void Engine::serve() {
  own_thread_ = std::this_thread::get_id();
  for (;;) {
    std::shared_ptr<Request> done;  // let go outside the lock: what its readers left may take others
    {
      const std::scoped_lock lock(queue_mutex_);
      done.swap(running_);
    }
    done.reset();
    {
      std::unique_lock lock(queue_mutex_);
      queue_changed_.wait(lock, [this] { return closed_ || !queue_.empty(); });
      if (closed_) return;
      running_ = std::move(queue_.front());
      queue_.pop_front();
    }
    try {
      generate(*running_);
    } catch (...) {
      running_->fail_with(std::current_exception());
    }
  }
}

void Engine::compute(std::span<const Row> rows, float* logits, const Observer& observer) {
  const std::scoped_lock lock(compute_mutex_);
  model_->check_file();
  forward_.run(rows, logits, observer);
}

void Engine::generate(Request& request) {
  const RequestOptions& options = request.options();
  const Config& config = model_->config();
  request.start();
  KvCache cache(model_->kv_layout());
  Sampler sampler(options.sampling, model_->kernels(), config.vocab_size, options.prompt);
  BadWords bad_words(options.bad_words, vocabulary_);
  TextStream text(vocabulary_, options);
  std::vector<float> logits(static_cast<size_t>(config.vocab_size));
  std::vector<int32_t> banned;
  std::vector<Row> rows;
  std::vector<float> raw;  // the logits before the sampler changes them
  auto finish = [&](FinishReason reason) { request.finish(reason, text.finish(), raw.empty() ? 0 : fnv1a(raw)); };
  auto interrupted = [&] {
    if (request.cancelled()) finish(FinishReason::cancelled);
    else if (request.expired()) finish(FinishReason::timeout);
    else return false;
    return true;
  };

  // Every position holds one token; the last one sampled needs none.
  const auto room = static_cast<int64_t>(config.seq_len) + 1 - static_cast<int64_t>(options.prompt.size());
  const int64_t most = options.max_new_tokens < 0 ? room : std::min(options.max_new_tokens, room);
  if (most <= 0) return finish(FinishReason::length);

  int32_t position = 0;
  for (size_t first = 0; first < options.prompt.size(); first += Forward::kMaxRows) {
    if (interrupted()) return;
    const size_t last = std::min(first + Forward::kMaxRows, options.prompt.size());
    cache.reserve(last);
    rows.clear();
    for (size_t i = first; i < last; ++i)
      rows.push_back({options.prompt[i], position++, cache.table(), i + 1 == options.prompt.size()});
    compute(rows, logits.data());
  }
  for (int64_t n = 0;; ++n) {
    if (interrupted()) return;
    raw = logits;
    banned.clear();
    bad_words.append_banned(banned);
    const std::vector<int32_t>& ends = options.end_tokens;
    if (n < options.min_new_tokens) banned.insert(banned.end(), ends.begin(), ends.end());
    const Sample sample = sampler.sample(logits, banned);
    if (std::find(ends.begin(), ends.end(), sample.token) != ends.end()) return finish(FinishReason::stop);
    bad_words.push(sample.token);
    request.publish(sample, text.push(sample.token));
    if (text.stopped()) return finish(FinishReason::stop);
    if (n + 1 == most) return finish(FinishReason::length);
    cache.reserve(static_cast<size_t>(position) + 1);
    const Row row{sample.token, position++, cache.table(), true};
    compute({&row, 1}, logits.data());
  }
}

void Engine::evaluate(std::span<const int32_t> ids,
                      const std::function<void(size_t, std::span<const float>)>& use, const Observer& observer) {
  const Config& config = model_->config();
  check_tokens(ids);
  if (ids.size() > static_cast<size_t>(config.seq_len))
    fail(Code::context_full, ids.size(), " tokens do not fit the model's context of ", config.seq_len);
  KvCache cache(model_->kv_layout());
  cache.reserve(ids.size());
  const auto vocab = static_cast<size_t>(config.vocab_size);
  std::vector<float> logits(std::min(ids.size(), Forward::kMaxRows) * vocab);
  std::vector<Row> rows;
  for (size_t first = 0; first < ids.size(); first += rows.size()) {
    {
      const std::scoped_lock lock(queue_mutex_);
      if (closed_) fail(Code::closed, "the model is closed");
    }
    rows.clear();
    for (size_t i = first; i < std::min(first + Forward::kMaxRows, ids.size()); ++i)
      rows.push_back({ids[i], static_cast<int32_t>(i), cache.table(), true});
    compute(rows, logits.data(), observer);
    use(first, {logits.data(), rows.size() * vocab});
  }
}

}  // namespace tinyzh
