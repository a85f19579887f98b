// A file that appears whole or not at all: written under a temporary name in the same directory,
// renamed when it is complete, removed when it is not.  atomic_file_posix.cc holds the system calls.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>

namespace tinyzh {

class AtomicFile {
 public:
  // Throws Error(Code::file) when the directory does not take a new file, or when `path` exists and
  // is no regular file (a rename would put an end to a device or a pipe).
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);

  // Replaces `path` by what was written.  It survives the end of this process, but not a power cut:
  // nothing waits for the disk.
  void commit();

 private:
  [[noreturn]] void fail_errno(const char* what) const;
  std::string path_, temporary_;
  std::FILE* file_ = nullptr;  // null once commit() was called
};

}  // namespace tinyzh
