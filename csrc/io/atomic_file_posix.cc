#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "io/atomic_file.h"

namespace tinyzh {
namespace {

// Another process has another number, another writer of this process another count.
std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> count{0};
  return concat(path, ".part-", ::getpid(), "-", count++);
}

}  // namespace

void AtomicFile::fail_errno(const char* what) const {
  const int error = errno;
  fail(Code::file, path_, ": ", what, ": ", std::generic_category().message(error), " (", temporary_, ")");
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(temporary_name(path)) {
  struct stat status;
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    fail(Code::file, path, ": exists and is no regular file; give another path to write to");
  }
  // Mode 0666, from which the system takes the user's umask, as for any new file.
  int descriptor = -1;
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  while ((descriptor = ::open(temporary_.c_str(), kFlags, 0666)) < 0 && errno == EEXIST) {
    temporary_ = temporary_name(path);  // left behind by a process of the same number
  }
  if (descriptor < 0) fail_errno("cannot be written");
  file_ = ::fdopen(descriptor, "wb");
  if (file_ == nullptr) {
    const int error = errno;
    ::close(descriptor);
    ::unlink(temporary_.c_str());
    errno = error;
    fail_errno("cannot be written");
  }
}

AtomicFile::~AtomicFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  if (file_ == nullptr) fail(Code::invalid_argument, path_, ": is already complete; nothing can be added to it");
  if (size != 0 && std::fwrite(data, 1, size, file_) != size) fail_errno("cannot be written");
}

void AtomicFile::commit() {
  if (file_ == nullptr) fail(Code::invalid_argument, path_, ": is already complete; commit it once");
  if (std::ferror(file_)) {
    fail(Code::file, path_, ": an earlier write failed, so there is no whole file to keep; write it again");
  }
  // Some file systems report a full disk only now.
  const bool closed = std::fclose(std::exchange(file_, nullptr)) == 0;
  if (closed && ::rename(temporary_.c_str(), path_.c_str()) == 0) return;
  const int error = errno;
  ::unlink(temporary_.c_str());
  errno = error;
  fail_errno(closed ? "cannot be replaced" : "cannot be written");
}

}  // namespace tinyzh
