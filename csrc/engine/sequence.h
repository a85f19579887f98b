// A request under way: its window of tokens, and what turns logits into tokens and tokens into text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/window.h"
#include "model/backend.h"
#include "model/model.h"
#include "sample/sampler.h"
#include "text/bad_words.h"
#include "text/stop_strings.h"
#include "text/utf8.h"
#include "text/vocabulary.h"

namespace tinyzh {

// Token ids in, certain text out: bytes -> whole characters -> up to a stop string.
class TextStream {
 public:
  TextStream(const Vocabulary& vocabulary, const RequestOptions& options)
      : vocabulary_(vocabulary), stop_(options.stop), trim_space_(options.trim_first_space) {}

  std::string push(int32_t token);
  std::string finish();
  bool stopped() const { return stop_.found(); }

 private:
  const Vocabulary& vocabulary_;
  Utf8Assembler assembler_;
  StopStrings stop_;
  bool trim_space_;
};

class Sequence {
 public:
  // Takes little memory before it starts.  Throws Error(Code::context_full).
  Sequence(std::shared_ptr<Request> request, uint64_t arrival, const Model& model, const Vocabulary& vocabulary,
           Pages& pages, Backend& backend);
  ~Sequence();  // no request stays without an end

  Request& request() { return *request_; }
  Stream stream() const;
  const Window& window() const { return window_; }

  // ---- computing ----
  // What others computed of the same tokens: first the whole pages, before it is clear whether it may start.
  size_t most_reusable() const { return std::min(first_logits(), window_.tokens().size() - 1); }
  void share_prefix() { window_.share(first_logits()); }
  size_t shareable_prefix() const { return window_.shareable(first_logits()); }
  void start();
  bool reserve(size_t rows) { return window_.reserve(begun() + rows); }
  // Tokens that are computed, or are by passes under way.
  size_t begun() const { return window_.computed() + begun_; }
  Row row(size_t index) const;                 // of one of the tokens after those
  void begin(size_t rows, bool draws);         // so many rows are under way now, and the device draws after the last

  // What one row of logits says.  Made on any thread, different rows of a sequence one after another or, when it
  // scores, at the same time; accepted in the order of the rows.
  struct Outcome {
    Sample sample;
    float score = 0;
    std::exception_ptr error;
  };
  // Of the logits (vocab_size) after token `index` of the window; they are overwritten.
  Outcome look(size_t index, std::span<float> logits);
  // Of what the device has drawn.
  Outcome outcome_of(const Drawn& drawn) const;
  // The oldest pass under way is over, `rows` rows of it were this sequence's, and these are the outcomes of those that
  // were looked at, or of the draw.  True: the sequence is over, and the request knows.
  bool advance(size_t rows, std::span<Outcome> outcomes);

  void let_go();  // of its pages: what was computed is to be computed again.  Nothing is under way
  int64_t drawn() const { return drawn_; }
  // True when the request was cancelled, or is past its deadline at `now`: the sequence is over, and the request knows.
  bool interrupt(Request::Clock::time_point now);
  bool is_over() const { return over_; }
  void fail(std::exception_ptr error);

 private:
  // What a request needs once it runs.
  struct Decoder {
    Decoder(const RequestOptions& options, const Model& model, const Vocabulary& vocabulary, bool samples);

    TextStream text;
    BadWords bad_words;
    std::optional<Sampler> sampler;  // none where the device draws
    std::vector<float> logits;       // the last ones, before the sampler changed them
  };

  bool scoring() const { return request_->options().score_from != 0; }
  size_t first_logits() const;  // index of the first token after which something is to be said
  bool device_draws() const;
  size_t foreseen() const;
  void close_slot();
  bool accept(const Sample& sample);
  bool finish(FinishReason reason);

  const std::shared_ptr<Request> request_;
  const uint64_t arrival_;
  const Model& model_;
  const Vocabulary& vocabulary_;
  Backend& backend_;
  const int64_t most_;  // tokens to draw; -1: no limit
  Window window_;
  std::unique_ptr<Decoder> decoder_;  // from the start on
  int64_t drawn_ = 0;
  size_t scored_ = 0;
  bool over_ = false;
  int32_t slot_ = -1;               // where the device draws
  size_t begun_ = 0, drawing_ = 0;  // under way: rows, and passes that draw
};

}  // namespace tinyzh
