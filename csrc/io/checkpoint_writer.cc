#include "io/checkpoint_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/layout.h"

namespace tinyzh {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are little-endian");

// The path, once it is known that a file with these numbers can be written and read again.
const std::string& checked(const std::string& path, const Config& config, Format format, size_t group_size) {
  // Beyond every limit there is no need to keep the exact number.
  const auto group = static_cast<int64_t>(std::min<size_t>(group_size, INT32_MAX));
  if (const std::string problem = header_problem(config, format, group); !problem.empty()) {
    fail(Code::invalid_argument, path, ": cannot be written as ", format_name(format), ": ", problem);
  }
  if (format != Format::v2 && group_size != 0) {
    fail(Code::invalid_argument, path, ": group_size is ", group_size, ", but ", format_name(format),
         " has no groups; pass 0, or write v2");
  }
  const Config standard;
  if (config.norm_eps != standard.norm_eps || config.rope_theta != standard.rope_theta) {
    fail(Code::invalid_argument, path, ": norm_eps is ", config.norm_eps, " and rope_theta ", config.rope_theta,
         ", but a llama2.c checkpoint has no place for them: its readers use ", standard.norm_eps, " and ",
         standard.rope_theta);
  }
  return path;
}

std::vector<CheckpointWriter::Slot> file_slots(const Config& config, Format format, size_t group_size) {
  std::vector<CheckpointWriter::Slot> slots;
  for (const Section& section : file_sections(config, format, group_size)) {
    if (!section.tensor) continue;
    for (size_t layer = 0; layer < section.layers; ++layer) {
      slots.push_back({*section.tensor, layer, section.quantised});
    }
  }
  return slots;
}

}  // namespace

CheckpointWriter::CheckpointWriter(const std::string& path, const Config& config, Format format,
                                   size_t group_size)
    : path_(checked(path, config, format, group_size)),
      config_(config),
      format_(format),
      group_size_(group_size),
      slots_(file_slots(config, format, group_size)),
      file_(path) {
  write_header();
}

void CheckpointWriter::write(std::span<const float> values) {
  const Slot& slot = expect(false);
  check_count("values", values.size(), tensor_shape(config_, slot.id).size());
  file_.write(values.data(), values.size_bytes());
  ++position_;
  if (format_ == Format::v0 && slot.id == TensorId::rms_final) write_rope_tables();
}

void CheckpointWriter::write(std::span<const int8_t> values, std::span<const float> scales) {
  const Slot& slot = expect(true);
  const size_t size = tensor_shape(config_, slot.id).size();
  check_count("values", values.size(), size);
  check_count("scales", scales.size(), size / group_size_);
  for (size_t i = 0; i < scales.size(); ++i) {
    if (std::isfinite(scales[i])) continue;
    fail(Code::invalid_argument, path_, ": scale ", i, " of ", tensor_name(slot.id), ", layer ", slot.layer,
         ", is ", scales[i], ", which must be a finite number; are there such numbers in the weights?");
  }
  file_.write(values.data(), values.size_bytes());
  file_.write(scales.data(), scales.size_bytes());
  ++position_;
}

void CheckpointWriter::commit() {
  if (!done()) {
    fail(Code::invalid_argument, path_, ": only ", position_, " of ", slots_.size(), " tensors are written; ",
         tensor_name(next().id), ", layer ", next().layer, ", is next");
  }
  file_.commit();
}

void CheckpointWriter::write_header() {
  std::array<std::byte, kHeaderSizeV1> header{};
  const auto put = [&header](size_t offset, const auto& value) {
    std::memcpy(&header[offset], &value, sizeof value);
  };
  const bool v0 = format_ == Format::v0;
  const std::array<int32_t, 7> dims = {
      config_.dim,        config_.hidden_dim,
      config_.n_layers,   config_.n_heads,
      config_.n_kv_heads, v0 && !config_.tied ? -config_.vocab_size : config_.vocab_size,
      config_.seq_len};
  if (v0) {
    put(0, dims);
  } else {
    put(0, kMagic);
    put(kVersionOffset, format_ == Format::v1 ? int32_t{1} : int32_t{2});
    put(kDimsOffset, dims);
    put(kTiedOffset, config_.tied ? uint8_t{1} : uint8_t{0});
    if (format_ == Format::v2) put(kGroupSizeOffset, static_cast<int32_t>(group_size_));
  }
  file_.write(header.data(), header_size(format_));
}

// cos and sin of every position and pair, (seq_len, head_size / 2) each.  Old readers expect these
// bytes and newer ones skip them; nothing in this project reads them.
void CheckpointWriter::write_rope_tables() {
  const auto pairs = static_cast<size_t>(config_.head_size() / 2);
  std::vector<double> frequencies(pairs);
  for (size_t i = 0; i < pairs; ++i) {
    frequencies[i] = std::pow(config_.rope_theta, -2.0 * static_cast<double>(i) / config_.head_size());
  }
  std::vector<float> row(pairs);
  for (double (*wave)(double) : {+[](double x) { return std::cos(x); }, +[](double x) { return std::sin(x); }}) {
    for (int32_t position = 0; position < config_.seq_len; ++position) {
      for (size_t i = 0; i < pairs; ++i) row[i] = static_cast<float>(wave(position * frequencies[i]));
      file_.write(row.data(), row.size() * sizeof(float));
    }
  }
}

const CheckpointWriter::Slot& CheckpointWriter::expect(bool quantised) const {
  if (done()) {
    fail(Code::invalid_argument, path_, ": all ", slots_.size(), " tensors are written; commit the file");
  }
  if (next().quantised != quantised) {
    fail(Code::invalid_argument, path_, ": ", tensor_name(next().id), " is next, which ", format_name(format_),
         next().quantised ? " stores as int8 values and scales, not fp32" : " stores as fp32, not int8");
  }
  return next();
}

void CheckpointWriter::check_count(const char* what, size_t found, size_t expected) const {
  if (found == expected) return;
  fail(Code::invalid_argument, path_, ": ", tensor_name(next().id), ", layer ", next().layer, ", has ",
       expected, " ", what, ", not ", found);
}

}  // namespace tinyzh
