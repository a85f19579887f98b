#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "io/mapped_file.h"

namespace tinyzh {
namespace {

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe (FIFO)";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  if (S_ISSOCK(mode)) return "a socket";
  return "no regular file";
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a pipe that nobody writes to must not wait for ever.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor_ < 0) {
    fail(Code::file, path, ": cannot be opened: ", std::generic_category().message(errno));
  }
  try {
    struct stat status;
    if (::fstat(descriptor_, &status) != 0) {
      fail(Code::file, path, ": cannot be examined: ", std::generic_category().message(errno));
    }
    if (!S_ISREG(status.st_mode)) {
      fail(S_ISDIR(status.st_mode) ? Code::checkpoint : Code::file, path, ": is ", kind_of(status.st_mode), "; give the path of a regular file");
    }
    const auto size = static_cast<uint64_t>(status.st_size);
    if (size > SIZE_MAX) {
      fail(Code::file, path, ": has ", size, " bytes, and this system can address ", SIZE_MAX,
           "; use a 64-bit build");
    }
    if (size == 0) return;  // nothing to map, and mmap refuses to
    void* data = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, descriptor_, 0);
    if (data == MAP_FAILED) {
      fail(Code::file, path, ": cannot be mapped (", size, " bytes): ", std::generic_category().message(errno));
    }
    bytes_ = {static_cast<const std::byte*>(data), static_cast<size_t>(size)};
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  ::close(descriptor_);
}

bool MappedFile::still_whole() const noexcept {
  struct stat status;
  return ::fstat(descriptor_, &status) == 0 && static_cast<uint64_t>(status.st_size) >= bytes_.size();
}

}  // namespace tinyzh
