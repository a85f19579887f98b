// The shape of a model: the header of a checkpoint, in the words of the file.
#pragma once

#include <cstdint>

namespace tinyzh {

struct Config {
  int32_t dim = 0;         // width of the residual stream
  int32_t hidden_dim = 0;  // width inside the feed-forward network
  int32_t n_layers = 0;
  int32_t n_heads = 0;     // query heads
  int32_t n_kv_heads = 0;  // key and value heads; fewer than n_heads is grouped-query attention
  int32_t vocab_size = 0;
  int32_t seq_len = 0;     // longest context
  bool tied = true;        // the classifier is the token embedding
  float norm_eps = 1e-5f;
  double rope_theta = 10000.0;

  int32_t head_size() const { return dim / n_heads; }
  int32_t kv_dim() const { return head_size() * n_kv_heads; }
};

}  // namespace tinyzh
