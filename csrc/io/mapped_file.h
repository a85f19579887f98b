// A file seen as bytes, read-only, without copying it.  The only place that maps memory:
// mapped_file_posix.cc holds the calls; another system gets a file of its own beside it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace tinyzh {

class MappedFile {
 public:
  // Throws Error(Code::file) when the path is missing, not readable or a device; Error(Code::checkpoint)
  // when it is a directory.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

  // False once the file on disk has become shorter than the mapping: reading the lost pages would
  // end the process (SIGBUS), so callers ask before they compute.
  bool still_whole() const noexcept;

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
  int descriptor_ = -1;
};

}  // namespace tinyzh
