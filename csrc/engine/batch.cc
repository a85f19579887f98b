#include "engine/batch.h"

#include <algorithm>

#include "base/error.h"
#include "engine/backends.h"

namespace tinyzh {

Batch::Batch(std::shared_ptr<Model> model, size_t streams)
    : model_(std::move(model)), backend_(make_backend(*model_)) {
  if (streams < 1 || streams > kMaxStreams)
    fail(Code::invalid_argument, "streams is ", streams, ": expected 1 to ", kMaxStreams);
  for (size_t i = 0; i < streams; ++i) caches_.emplace_back(model_->kv_layout(), backend_->block_memory());
}

void Batch::prefill(std::span<const int32_t> tokens) {
  check(tokens, tokens.size());
  std::vector<Row> rows;
  for (KvCache& cache : caches_) {
    cache.reserve(static_cast<size_t>(position_) + tokens.size());
    for (size_t t = 0; t < tokens.size(); ++t)
      rows.push_back({tokens[t], position_ + static_cast<int32_t>(t), cache.table(), false});
  }
  compute(rows, nullptr);
  position_ += static_cast<int32_t>(tokens.size());
}

void Batch::step(std::span<const int32_t> tokens, float* logits) {
  if (tokens.size() != streams())
    fail(Code::invalid_argument, tokens.size(), " tokens for ", streams(), " streams: expected one for each");
  check(tokens, 1);
  std::vector<Row> rows;
  for (size_t i = 0; i < streams(); ++i) {
    caches_[i].reserve(static_cast<size_t>(position_) + 1);
    rows.push_back({tokens[i], position_, caches_[i].table(), true});
  }
  compute(rows, logits);
  ++position_;
}

void Batch::check(std::span<const int32_t> tokens, size_t positions) const {
  for (int32_t token : tokens)
    if (token < 0 || static_cast<size_t>(token) >= vocab_size())
      fail(Code::invalid_argument, "token ", token, " is outside the vocabulary of ", vocab_size());
  const auto context = static_cast<size_t>(model_->config().seq_len);
  if (static_cast<size_t>(position_) + positions > context)
    fail(Code::context_full, position_, " positions and ", positions, " more are above the context of ", context);
}

void Batch::compute(std::span<const Row> rows, float* logits) {
  for (const size_t most = backend_->max_rows(); !rows.empty(); rows = rows.subspan(std::min(rows.size(), most))) {
    const std::span<const Row> some = rows.first(std::min(rows.size(), most));
    backend_->run(some, logits);
    if (logits) logits += some.size() * vocab_size();
  }
}

}  // namespace tinyzh
