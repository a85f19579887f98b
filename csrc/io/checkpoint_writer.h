// Writes ready tensors as a llama2.c checkpoint.  The caller hands them over one layer at a time in
// the order of the file (writer.next() says which); the header, padding, order and the atomic
// replacement of the target are this file's business.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint.h"

namespace tinyzh {

class CheckpointWriter {
 public:
  struct Slot {
    TensorId id;
    size_t layer;
    bool quantised;
  };

  // Writes to a temporary file beside `path`; commit() renames it, the destructor removes it.
  // v2 needs a group_size that divides dim and every matrix's element count; anything else is an
  // Error(Code::invalid_argument).
  CheckpointWriter(const std::string& path, const Config& config, Format format, size_t group_size = 0);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  bool done() const { return position_ == slots_.size(); }
  const Slot& next() const { return slots_[position_]; }
  void write(std::span<const float> values);                                   // next() is fp32
  void write(std::span<const int8_t> values, std::span<const float> scales);   // next() is quantised
  void commit();

 private:
  void put(const void* data, size_t size);
  std::string path_, temporary_;
  Config config_;
  Format format_;
  size_t group_size_;
  std::vector<Slot> slots_;
  size_t position_ = 0;
  std::FILE* file_ = nullptr;
};

}  // namespace tinyzh
