#include <limits>

#include "capi/handles.h"

using namespace tinyzh;

namespace {

std::vector<std::string> strings(const char* const* list, size_t count, const char* name) {
  std::vector<std::string> all;
  require(list || count == 0, name);
  for (size_t i = 0; i < count; ++i) {
    require(list[i], name);
    all.emplace_back(list[i]);
  }
  return all;
}

void check_range(const char* name, double value, double low, double high) {
  if (!(value >= low && value <= high))
    fail(Code::invalid_argument, name, " is ", value, ": expected a number from ", low, " to ", high);
}

SamplingParams sampling_of(const tinyzh_sampling* given) {
  const tinyzh_sampling s = complete(given, tinyzh_sampling_default());
  check_range("temperature", s.temperature, 0, 1000);
  check_range("top_p", s.top_p, std::numeric_limits<float>::min(), 1);
  check_range("top_k", s.top_k, 0, std::numeric_limits<int32_t>::max());
  check_range("min_p", s.min_p, 0, 1);
  check_range("repetition_penalty", s.repetition_penalty, 0.01f, 100);
  check_range("presence_penalty", s.presence_penalty, -100, 100);
  check_range("frequency_penalty", s.frequency_penalty, -100, 100);
  SamplingParams params;
  params.temperature = s.temperature;
  params.top_p = s.top_p;
  params.top_k = s.top_k;
  params.min_p = s.min_p;
  params.repetition_penalty = s.repetition_penalty;
  params.presence_penalty = s.presence_penalty;
  params.frequency_penalty = s.frequency_penalty;
  params.seed = s.seed;
  require(s.logit_bias || s.logit_bias_count == 0, "logit_bias");
  for (size_t i = 0; i < s.logit_bias_count; ++i) {
    check_range("a bias of logit_bias", s.logit_bias[i].bias, -100, 100);
    params.logit_bias.emplace_back(s.logit_bias[i].token, s.logit_bias[i].bias);
  }
  return params;
}

// The prompt of a request: given as it is, or to be made of a text by whoever does the work.
void set_prompt(RequestOptions& options, const tinyzh_request& r, const tinyzh_engine& engine) {
  std::vector<int32_t> before;
  if (r.session) {
    if (r.session->home.lock() != engine.home) fail(Code::invalid_argument, "session belongs to another engine");
    before = r.session->session.finished_tokens();
  }
  require(r.text || r.text_size == 0, "text");
  require(r.ids || r.id_count == 0, "ids");
  if (r.text_size > 0 && r.id_count > 0) fail(Code::invalid_argument, "the prompt is given as text and as ids: expected one of them");
  const bool begins = before.empty() || before == std::vector<int32_t>{Vocabulary::kBos};
  if (before.empty() && r.id_count == 0) before.push_back(Vocabulary::kBos);
  if (r.text_size == 0) {
    before.insert(before.end(), r.ids, r.ids + r.id_count);
    options.prompt = std::move(before);
    options.trim_first_space = begins && r.id_count == 0 && engine.tokenizer && engine.tokenizer->adds_dummy_prefix();
    return;
  }
  if (!engine.tokenizer) fail(Code::invalid_argument, "the engine was created without a tokenizer: give the prompt as ids");
  options.make_prompt = [before = std::move(before), text = std::string(r.text, r.text_size), begins,
                         tokenizer = engine.tokenizer] {
    std::vector<int32_t> prompt = before;
    const std::vector<int32_t> encoded = tokenizer->encode(text, !begins);
    prompt.insert(prompt.end(), encoded.begin(), encoded.end());
    return prompt;
  };
}

RequestOptions options_of(const tinyzh_request& r, const tinyzh_engine& engine, const Config& config) {
  RequestOptions options;
  options.sampling = sampling_of(r.sampling);
  options.sampling.logprobs = r.token_events == 2 ? 0 : -1;
  options.max_new_tokens = r.max_new_tokens < 0 ? -1 : r.max_new_tokens;
  options.min_new_tokens = r.min_new_tokens;
  options.stop = strings(r.stop, r.stop_count, "stop");
  options.bad_words = strings(r.bad_words, r.bad_word_count, "bad_words");
  options.overflow = r.shift ? Overflow::shift : Overflow::stop;
  options.priority = r.priority;
  options.score_from = r.score_from;
  for (int32_t end : {Vocabulary::kBos, Vocabulary::kEos})
    if (end < config.vocab_size) options.end_tokens.push_back(end);
  constexpr int64_t kLongest = 1'000'000'000'000'000;  // three decades; more could overflow the clock
  if (r.timeout_us >= 0) options.deadline = Request::Clock::now() + std::chrono::microseconds(std::min(r.timeout_us, kLongest));
  set_prompt(options, r, engine);
  return options;
}

tinyzh_finish finish_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::length: return TINYZH_LENGTH;
    case FinishReason::cancelled: return TINYZH_CANCELLED;
    case FinishReason::timeout: return TINYZH_TIMEOUT;
    default: return TINYZH_STOP;
  }
}

}  // namespace

std::shared_ptr<Engine> tinyzh_engine::engine_of(std::shared_ptr<Model> model) const {
  return std::make_shared<Engine>(std::move(model), tokenizer ? tokenizer->vocabulary() : Vocabulary(), options);
}

bool tinyzh_engine::collect(uint64_t id, Live& l) {
  const Request::News news = l.request->news(l.pieces, l.samples, l.scores);
  std::deque<Event> told;
  const auto add = [&](tinyzh_event_type type) -> Event& {
    Event event = {};
    event.event.type = type;
    event.event.request = id;
    event.event.user = l.user;
    return told.emplace_back(std::move(event));
  };
  if (l.token_events)
    for (const Sample& sample : news.samples) {
      Event& event = add(TINYZH_EVENT_TOKEN);
      event.event.token = sample.token;
      event.event.logprob = sample.logprob;
    }
  const RequestOptions& asked = l.request->options();
  for (size_t i = 0; i < news.scores.size(); ++i) {
    Event& event = add(TINYZH_EVENT_TOKEN);
    event.event.token = asked.prompt[asked.score_from + l.scores + i];
    event.event.logprob = news.scores[i];
  }
  for (const std::string& piece : news.pieces) add(TINYZH_EVENT_TEXT).text = piece;
  if (news.finish == FinishReason::error) {
    tinyzh_error error;
    guarded(&error, [&] { l.request->rethrow_error(); });
    Event& event = add(TINYZH_EVENT_FAILED);
    event.event.code = error.code;
    event.text = error.message;
  } else if (news.finish != FinishReason::none) {
    add(TINYZH_EVENT_FINISHED).event.finish = finish_of(news.finish);
  }
  // From here on nothing can fail.
  events.swap(told);
  l.pieces += news.pieces.size();
  l.samples += news.samples.size();
  l.scores += news.scores.size();
  return news.finish != FinishReason::none;
}

std::vector<uint64_t> tinyzh_engine::everyone() {
  try {
    std::vector<uint64_t> ids;
    const std::scoped_lock lock(mutex);
    for (const auto& [id, request] : live) ids.push_back(id);
    return ids;
  } catch (const std::bad_alloc&) {
    mailbox->miss();
    throw;
  }
}

void tinyzh_engine::forget(uint64_t id) {
  decltype(live)::node_type gone;  // after the lock: with the last request of a swapped model its threads end
  const std::scoped_lock lock(mutex);
  gone = live.extract(id);
}

tinyzh_engine_options tinyzh_engine_options_default(void) {
  const EngineOptions defaults;
  tinyzh_engine_options options = {};
  options.struct_size = sizeof options;
  options.streams = static_cast<uint32_t>(defaults.streams);
  options.queue_limit = static_cast<uint32_t>(defaults.queue_limit);
  options.prompt_rows = static_cast<uint32_t>(defaults.prompt_rows);
  options.own_thread = 1;
  return options;
}

tinyzh_sampling tinyzh_sampling_default(void) {
  const SamplingParams defaults;
  tinyzh_sampling sampling = {};
  sampling.struct_size = sizeof sampling;
  sampling.temperature = defaults.temperature;
  sampling.top_p = defaults.top_p;
  sampling.repetition_penalty = 1;
  sampling.seed = 1;
  return sampling;
}

tinyzh_request tinyzh_request_default(void) {
  tinyzh_request request = {};
  request.struct_size = sizeof request;
  request.max_new_tokens = -1;
  request.timeout_us = -1;
  return request;
}

int32_t tinyzh_engine_create(tinyzh_model* model, const tinyzh_tokenizer* tokenizer, const tinyzh_engine_options* options,
                             tinyzh_engine** engine, tinyzh_error* error) {
  return guarded(error, [&] {
    require(model, "model");
    require(engine, "engine");
    *engine = nullptr;
    const tinyzh_engine_options o = complete(options, tinyzh_engine_options_default());
    auto made = std::make_unique<tinyzh_engine>();
    if (tokenizer) made->tokenizer = tokenizer->tokenizer;
    made->options = {.queue_limit = o.queue_limit, .streams = o.streams, .kv_bytes = static_cast<size_t>(o.cache_bytes),
                     .prompt_rows = o.prompt_rows, .own_thread = o.own_thread != 0};
    if (o.log)
      made->options.log = [log = o.log, user = o.log_user](LogLevel level, const std::string& message) {
        log(user, level == LogLevel::warning ? TINYZH_LOG_WARNING : TINYZH_LOG_INFO, message.c_str());
      };
    made->engine = made->engine_of(model->model);
    *engine = made.release();
  });
}

void tinyzh_engine_destroy(tinyzh_engine* engine) { delete engine; }

int32_t tinyzh_model_swap(tinyzh_engine* engine, tinyzh_model* model, tinyzh_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(model, "model");
    const auto old = engine->current();  // gone after the lock, if nobody needs it any more
    if (const int32_t now = old->model().config().vocab_size, then = model->model->config().vocab_size; now != then)
      fail(Code::tokenizer, "the new model's vocabulary has ", then, " tokens, the old one's ", now,
           ": sessions and tokenizer go with another; create an engine of its own");
    auto next = engine->engine_of(model->model);
    const std::scoped_lock lock(engine->mutex);
    std::erase_if(engine->retired, [](const std::weak_ptr<Engine>& s) { return s.expired(); });
    engine->retired.push_back(engine->engine);
    engine->engine.swap(next);
  });
}

int32_t tinyzh_engine_submit(tinyzh_engine* engine, const tinyzh_request* request, uint64_t* id, tinyzh_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(request, "request");
    const tinyzh_request r = complete(request, tinyzh_request_default());
    tinyzh_engine::Live live;
    live.user = r.user;
    live.token_events = r.token_events != 0;
    live.engine = engine->current();
    live.request = live.engine->submit(options_of(r, *engine, live.engine->model().config()));
    const std::shared_ptr<Request> submitted = live.request;
    uint64_t its_id = 0;
    try {
      {
        const std::scoped_lock lock(engine->mutex);
        its_id = ++engine->last_id;
        engine->live.emplace(its_id, std::move(live));
      }
      submitted->set_waker([mailbox = engine->mailbox, its_id] { mailbox->put(its_id); });  // and once now
    } catch (const std::bad_alloc&) {  // as if it had never been
      submitted->cancel();
      engine->forget(its_id);
      throw;
    }
    if (r.session) r.session->session.follow(submitted);
    if (id) *id = its_id;
  });
}

void tinyzh_engine_cancel(tinyzh_engine* engine, uint64_t id) {
  if (!engine) return;
  std::shared_ptr<Request> request;
  {
    const std::scoped_lock lock(engine->mutex);
    const auto found = engine->live.find(id);
    if (found == engine->live.end()) return;
    request = found->second.request;
  }
  request->cancel();
}

void tinyzh_engine::collect() {
  if (pending.empty()) {
    Mailbox::Word word = mailbox->take(0);
    pending.swap(word.keys);
    if (word.missed) pending = everyone();
    std::reverse(pending.begin(), pending.end());
  }
  while (!pending.empty() && events.empty()) {  // one request a call, so that each is short
    const uint64_t id = pending.back();
    Live* request = nullptr;
    {
      const std::scoped_lock lock(mutex);
      if (const auto found = live.find(id); found != live.end()) request = &found->second;  // only this thread erases
    }
    const bool over = request && collect(id, *request);
    pending.pop_back();
    if (over) forget(id);
  }
}

int32_t tinyzh_engine_poll(tinyzh_engine* engine, tinyzh_event* event) {
  if (!engine || !event) return 0;
  if (engine->events.empty()) guarded(nullptr, [&] { engine->collect(); });
  if (engine->events.empty()) return 0;
  tinyzh_engine::Event& next = engine->events.front();
  engine->text = std::move(next.text);
  *event = next.event;
  event->text = engine->text.data();
  event->size = engine->text.size();
  engine->events.pop_front();
  return 1;
}

int32_t tinyzh_engine_wait(tinyzh_engine* engine, int64_t timeout_us) {
  if (!engine) return 0;
  if (!engine->events.empty() || !engine->pending.empty()) return 1;
  if (timeout_us >= 0) return engine->mailbox->wait(static_cast<double>(timeout_us) * 1e-6);
  while (!engine->mailbox->wait(1e6)) {
  }
  return 1;
}

size_t tinyzh_engine_step(tinyzh_engine* engine, uint32_t budget_us) {
  if (!engine) return 0;
  const auto deadline = Request::Clock::now() + std::chrono::microseconds(budget_us);
  size_t left = 0;
  const auto work = [&](Engine& e) { guarded(nullptr, [&] { left += e.step(deadline); }); };
  for (size_t i = 0;; ++i) {  // what was swapped first ends first
    std::shared_ptr<Engine> retired;
    {
      const std::scoped_lock lock(engine->mutex);
      if (i >= engine->retired.size()) break;
      retired = engine->retired[i].lock();
    }
    if (retired) work(*retired);
  }
  work(*engine->current());
  return left;
}

tinyzh_stats tinyzh_engine_get_stats(const tinyzh_engine* engine) {
  if (!engine) return {};
  const auto current = engine->current();
  const Stats s = current->stats();
  const auto percentiles = [](const Percentiles& p) { return tinyzh_percentiles{p.p50, p.p90, p.p99}; };
  tinyzh_stats stats = {};
  stats.running = s.running;
  stats.waiting = current->waiting();
  stats.cache_bytes = s.pages * s.page_bytes;
  stats.cache_limit_bytes = s.pages_limit * s.page_bytes;
  stats.cache_kept_bytes = s.pages_kept * s.page_bytes;
  stats.steps = s.steps;
  stats.requests = s.requests;
  stats.preemptions = s.preemptions;
  stats.prompt_tokens = s.prompt_tokens;
  stats.reused_tokens = s.reused_tokens;
  stats.new_tokens = s.new_tokens;
  stats.tokens_per_second = s.tokens_per_second;
  stats.step = percentiles(s.step);
  stats.overhead = percentiles(s.overhead);
  stats.first_token = percentiles(s.first_token);
  return stats;
}
