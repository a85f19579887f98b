#include "io/layout.h"

#include <limits>

#include "base/checked.h"
#include "base/error.h"

namespace tinyzh {
namespace {

// A size beyond 64 bits becomes the largest number there is: no file is that long, so it is found
// to be too short like any other.
uint64_t mul(uint64_t a, uint64_t b) {
  return checked_mul(a, b).value_or(std::numeric_limits<uint64_t>::max());
}
uint64_t add(uint64_t a, uint64_t b) {
  return checked_add(a, b).value_or(std::numeric_limits<uint64_t>::max());
}

std::string range_problem(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return concat(field, " is ", value, ", which must be from ", low, " to ", high);
}

Section section(const Config& config, TensorId id, size_t group_size) {
  const TensorShape shape = tensor_shape(config, id);
  const uint64_t elements = mul(shape.rows, shape.cols);
  const bool quantised = group_size != 0;
  const uint64_t bytes = quantised ? add(elements, mul(elements / group_size, sizeof(float)))
                                   : mul(elements, sizeof(float));
  return {id, quantised, shape.layers, bytes};
}

}  // namespace

std::string header_problem(const Config& c, Format format, int64_t group_size) {
  // The range of n_heads and n_kv_heads follows from what they must divide.
  for (const std::string& problem : {
           range_problem("dim", c.dim, 2, kMaxDim),
           range_problem("hidden_dim", c.hidden_dim, 1, kMaxDim),
           range_problem("n_layers", c.n_layers, 1, kMaxLayers),
           range_problem("n_heads", c.n_heads, 1, c.dim),
           range_problem("n_kv_heads", c.n_kv_heads, 1, c.n_heads),
           range_problem("vocab_size", c.vocab_size, 1, kMaxVocab),
           range_problem("seq_len", c.seq_len, 1, kMaxSeqLen),
       }) {
    if (!problem.empty()) return problem;
  }
  if (c.dim % c.n_heads != 0) {
    return concat("n_heads is ", c.n_heads, ", which must divide dim, ", c.dim);
  }
  if (c.n_heads % c.n_kv_heads != 0) {
    return concat("n_kv_heads is ", c.n_kv_heads, ", which must divide n_heads, ", c.n_heads);
  }
  if (c.head_size() % 2 != 0) {
    return concat("the head size, dim / n_heads = ", c.dim, " / ", c.n_heads, ", is ", c.head_size(),
                  ", which must be even: positions rotate pairs");
  }
  if (format != Format::v2) return {};
  // Every matrix has dim as a factor of its size, so a group that divides dim divides them all.
  if (std::string problem = range_problem("group_size", group_size, 1, c.dim); !problem.empty()) {
    return problem;
  }
  if (c.dim % group_size != 0) {
    return concat("group_size is ", group_size, ", which must divide dim, ", c.dim);
  }
  return {};
}

uint64_t Section::bytes() const { return mul(layers, layer_bytes); }

std::vector<Section> file_sections(const Config& config, Format format, size_t group_size) {
  using enum TensorId;
  std::vector<Section> sections;
  const auto vectors = [&](auto... ids) { (sections.push_back(section(config, ids, 0)), ...); };
  const auto matrices = [&](auto... ids) {
    (sections.push_back(section(config, ids, format == Format::v2 ? group_size : 0)), ...);
  };

  if (format == Format::v0) {
    matrices(tok_emb);
    vectors(rms_att);
    matrices(wq, wk, wv, wo);
    vectors(rms_ffn);
    matrices(w1, w2, w3);
    vectors(rms_final);
    // cos and sin, (seq_len, head_size / 2) each
    const uint64_t tables = mul(mul(config.seq_len, config.head_size()), sizeof(float));
    sections.push_back({std::nullopt, false, 1, tables});
  } else {
    vectors(rms_att, rms_ffn, rms_final);
    matrices(tok_emb, wq, wk, wv, wo, w1, w2, w3);
  }
  if (!config.tied) matrices(wcls);
  return sections;
}

uint64_t file_size(const Config& config, Format format, size_t group_size) {
  uint64_t size = header_size(format);
  for (const Section& s : file_sections(config, format, group_size)) size = add(size, s.bytes());
  return size;
}

}  // namespace tinyzh
