// Where a model's weights come from, and what keeps their bytes: a mapped file, a copy of someone's bytes, or
// arrays that already lie in memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/allocator.h"
#include "io/checkpoint.h"
#include "io/mapped_file.h"

namespace tinyzh {

class Source {
 public:
  explicit Source(const std::string& path);  // mapped, used in place
  explicit Source(std::span<const std::byte> bytes, const Allocator& allocator = Allocator::system());  // copied
  // fp32, used in place; `keeper` is held as long as they are.  Throws Error(Code::invalid_argument).
  Source(const Config& config, const TensorArrays& arrays, std::shared_ptr<const void> keeper);
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  const Checkpoint& checkpoint() const { return checkpoint_; }
  size_t bytes() const;  // of the file, the copy, or all arrays together

  // Of the shape and of samples from all over the bytes: other weights, another number.
  uint64_t fingerprint() const;

  // Throws Error(Code::checkpoint) when the file has been cut short since it was opened.
  void check_whole() const;

 private:
  std::optional<MappedFile> file_;
  AlignedBuffer<std::byte> memory_;
  std::shared_ptr<const void> keeper_;
  std::vector<std::span<const std::byte>> runs_;  // all bytes there are, in order
  Checkpoint checkpoint_;
};

}  // namespace tinyzh
