// Writes ready tensors as a llama2.c checkpoint.  The caller hands them over one layer at a time in
// the order of the file (writer.next() says which); the header, padding, order and the atomic
// replacement of the target are this file's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "io/checkpoint.h"

namespace tinyzh {

class CheckpointWriter {
 public:
  struct Slot {
    TensorId id;
    size_t layer;
    bool quantised;
  };

  // Opens a temporary file beside `path`; commit() gives it that name, the destructor removes it.
  // Error(Code::invalid_argument): a config that the reader would refuse; a group_size that does not
  // divide dim (v2) or is not 0 (v0, v1); a norm_eps or rope_theta of its own, for which no version
  // has a place.  Error(Code::file): the file cannot be written.
  CheckpointWriter(const std::string& path, const Config& config, Format format, size_t group_size = 0);

  bool done() const { return position_ == slots_.size(); }
  const Slot& next() const { return slots_[position_]; }  // not when done()
  void write(std::span<const float> values);                                  // next() is fp32
  void write(std::span<const int8_t> values, std::span<const float> scales);  // next() is quantised
  void commit();                                                              // when done()

 private:
  void write_header();
  void write_rope_tables();
  const Slot& expect(bool quantised) const;
  void check_count(const char* what, size_t found, size_t expected) const;

  std::string path_;
  Config config_;
  Format format_;
  size_t group_size_;
  std::vector<Slot> slots_;  // in the order of the file
  size_t position_ = 0;
  AtomicFile file_;
};

}  // namespace tinyzh
