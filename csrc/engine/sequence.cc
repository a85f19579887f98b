#include "engine/sequence.h"

#include <algorithm>
#include <new>

#include "base/error.h"
#include "base/fnv1a.h"

namespace tinyzh {
namespace {

// What a sequence is computed from; the last token of a text that is scored needs no logits after it.
std::span<const int32_t> first_tokens(const RequestOptions& options) {
  const std::span<const int32_t> prompt(options.prompt);
  return options.score_from == 0 ? prompt : prompt.first(prompt.size() - 1);
}

// Every position holds one token; the last one drawn needs none.
int64_t most_tokens(const RequestOptions& options, const Config& config) {
  if (options.overflow == Overflow::shift) return options.max_new_tokens;
  const auto room = static_cast<int64_t>(config.seq_len) + 1 - static_cast<int64_t>(options.prompt.size());
  return options.max_new_tokens < 0 ? room : std::min(options.max_new_tokens, room);
}

}  // namespace

std::string TextStream::push(int32_t token) {
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

std::string TextStream::finish() {
  std::string rest;
  assembler_.finish(rest);
  std::string text = stop_.push(rest);
  return text + stop_.finish();
}

Sequence::Decoder::Decoder(const RequestOptions& options, const Model& model, const Vocabulary& vocabulary, bool samples)
    : text(vocabulary, options), bad_words(options.bad_words, vocabulary) {
  if (samples) sampler.emplace(options.sampling, model.kernels(), model.config().vocab_size, options.prompt);
}

Sequence::Sequence(std::shared_ptr<Request> request, uint64_t arrival, const Model& model, const Vocabulary& vocabulary,
                   Pages& pages, Backend& backend)
    : request_(std::move(request)),
      arrival_(arrival),
      model_(model),
      vocabulary_(vocabulary),
      backend_(backend),
      most_(most_tokens(request_->options(), model.config())),
      window_(first_tokens(request_->options()), static_cast<size_t>(model.config().seq_len), request_->options().overflow,
              pages) {}

Sequence::~Sequence() {
  close_slot();
  if (request_->finish_reason() == FinishReason::none) fail(std::make_exception_ptr(std::bad_alloc()));  // nothing else leads here
}

void Sequence::start() {
  window_.copy_part(first_logits());
  if (!decoder_) decoder_ = std::make_unique<Decoder>(request_->options(), model_, vocabulary_, !device_draws());
  if (device_draws()) {
    const RequestOptions& options = request_->options();
    const auto until = static_cast<uint32_t>(std::clamp<int64_t>(options.min_new_tokens, 0, UINT32_MAX));
    slot_ = backend_.open_slot({options.sampling, options.prompt, request_->tokens(), options.end_tokens, until});
  }
  request_->start();
}

// What needs the host: log-probabilities, and what changes the logits by rules of its own.
bool Sequence::device_draws() const {
  const RequestOptions& options = request_->options();
  return backend_.can_draw() && !scoring() && most_ != 0 && options.sampling.logprobs < 0 && options.sampling.logit_bias.empty() &&
         options.bad_words.empty();
}

void Sequence::close_slot() {
  if (slot_ >= 0) backend_.close_slot(slot_);
  slot_ = -1;
}

// How many of the tokens that passes under way draw are certain to be computed next, if the story does not end with
// one of them.
size_t Sequence::foreseen() const {
  auto n = static_cast<int64_t>(drawing_);
  if (most_ >= 0) n = std::min(n, most_ - drawn_ - 1);  // the last one is not computed
  n = std::min(n, static_cast<int64_t>(model_.config().seq_len) - static_cast<int64_t>(window_.tokens().size()));
  return static_cast<size_t>(std::max<int64_t>(n, 0));
}

Stream Sequence::stream() const {
  return {request_->options().priority, arrival_, window_.tokens().size() + foreseen(), begun(), window_.pages()};
}

Row Sequence::row(size_t index) const {
  const std::span<const int32_t> tokens = window_.tokens();
  const bool told = index >= first_logits();
  return {index < tokens.size() ? tokens[index] : ~slot_, static_cast<int32_t>(index), window_.table(), told && slot_ < 0,
          told ? slot_ : -1};
}

void Sequence::begin(size_t rows, bool draws) {
  begun_ += rows;
  drawing_ += draws;
}

void Sequence::let_go() {
  window_.let_go();
  close_slot();
}

size_t Sequence::first_logits() const {
  if (scoring()) return request_->options().score_from - 1 + scored_;
  return most_ == 0 ? SIZE_MAX : window_.tokens().size() - 1;
}

Sequence::Outcome Sequence::look(size_t index, std::span<float> logits) {
  Outcome outcome;
  try {
    if (scoring()) {
      check_logits(logits);
      std::vector<float> logprobs(logits.size());
      log_softmax(logits, logprobs, model_.kernels());
      outcome.score = logprobs[static_cast<size_t>(request_->options().prompt[index + 1])];
      return outcome;
    }
    decoder_->logits.assign(logits.begin(), logits.end());
    const RequestOptions& options = request_->options();
    std::vector<int32_t> banned;
    decoder_->bad_words.append_banned(banned);
    if (drawn_ < options.min_new_tokens) banned.insert(banned.end(), options.end_tokens.begin(), options.end_tokens.end());
    outcome.sample = decoder_->sampler->sample(logits, banned);
  } catch (...) {
    outcome.error = std::current_exception();
  }
  return outcome;
}

Sequence::Outcome Sequence::outcome_of(const Drawn& drawn) const {
  Outcome outcome;
  outcome.sample.token = drawn.token;
  try {
    const auto vocab = static_cast<size_t>(model_.config().vocab_size), token = static_cast<size_t>(~drawn.token);
    if (drawn.token < 0 && token == vocab) fail_for_bans(vocab);
    if (drawn.token < 0) fail_for_logit(token, drawn.value);
  } catch (...) {
    outcome.error = std::current_exception();
  }
  return outcome;
}

bool Sequence::advance(size_t rows, std::span<Outcome> outcomes) {
  begun_ -= rows;
  if (slot_ >= 0) drawing_ -= outcomes.size();
  window_.advance(rows);
  for (const Outcome& outcome : outcomes) {
    if (outcome.error) {
      fail(outcome.error);
      return true;
    }
    if (!scoring()) return accept(outcome.sample);  // it has one
    request_->add_score(outcome.score);
    ++scored_;
  }
  if (window_.computed() < window_.tokens().size()) return false;
  return finish(scoring() ? FinishReason::stop : FinishReason::length);  // nothing is to be drawn
}

bool Sequence::accept(const Sample& sample) {
  const std::vector<int32_t>& ends = request_->options().end_tokens;
  if (std::find(ends.begin(), ends.end(), sample.token) != ends.end()) return finish(FinishReason::stop);
  decoder_->bad_words.push(sample.token);
  request_->publish(sample, decoder_->text.push(sample.token));
  ++drawn_;
  if (decoder_->text.stopped()) return finish(FinishReason::stop);
  if (drawn_ == most_ || !window_.push(sample.token)) return finish(FinishReason::length);
  return false;
}

bool Sequence::interrupt(Request::Clock::time_point now) {
  if (request_->cancelled()) return finish(FinishReason::cancelled);
  if (request_->expired(now)) return finish(FinishReason::timeout);
  return false;
}

void Sequence::fail(std::exception_ptr error) {
  over_ = true;
  request_->fail_with(std::move(error));
}

bool Sequence::finish(FinishReason reason) {
  over_ = true;
  try {
    if (!decoder_) request_->finish(reason);
    else request_->finish(reason, decoder_->text.finish(), decoder_->logits.empty() ? 0 : fnv1a(std::as_bytes(std::span(decoder_->logits))));
  } catch (...) {
    fail(std::current_exception());
  }
  return true;
}

}  // namespace tinyzh
