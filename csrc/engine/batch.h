// Several sequences in step, one token each at a time, without requests or sampling: for benchmarks, and
// for whoever chooses tokens by himself.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/backend.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace tinyzh {

class Batch {
 public:
  static constexpr size_t kMaxStreams = 4096;

  // Throws Error: invalid_argument.  The model's threads serve one forward pass at a time: no engine of the
  // same model may compute meanwhile.
  Batch(std::shared_ptr<Model> model, size_t streams);

  size_t streams() const { return caches_.size(); }
  size_t vocab_size() const { return static_cast<size_t>(model_->config().vocab_size); }

  // The next tokens.size() tokens of every stream, the same for all.
  void prefill(std::span<const int32_t> tokens);
  // One token for each stream; logits (streams, vocab_size).
  void step(std::span<const int32_t> tokens, float* logits);

 private:
  void check(std::span<const int32_t> tokens, size_t positions) const;
  void compute(std::span<const Row> rows, float* logits);

  std::shared_ptr<Model> model_;
  const std::unique_ptr<Backend> backend_;
  std::vector<KvCache> caches_;  // one a stream
  int32_t position_ = 0;         // of the next token, in all streams
};

}  // namespace tinyzh
