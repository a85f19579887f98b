#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/error.h"
#include "io/atomic_file.h"
#include "io/expect_error.h"
#include "io/make_checkpoint.h"
#include "io/temporary_directory.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

// As if the disk were full: no file of this process may grow beyond `size`.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t size) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{size, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_;
};

}  // namespace

TEST_CASE("atomic file: the old content stays until the new one is complete") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  write_file(path, as_bytes("old"));
  {
    AtomicFile file(path);
    file.write("newer", 5);
    CHECK(read_file(path).size() == 3);
    CHECK(directory.count() == 2);
    file.commit();
  }
  CHECK(read_file(path).size() == 5);
  CHECK(directory.count() == 1);
}

TEST_CASE("atomic file: without commit nothing is left") {
  const TemporaryDirectory directory;
  { AtomicFile(directory / "file").write("abc", 3); }
  CHECK(directory.count() == 0);
}

TEST_CASE("atomic file: two writers of one path do not meet") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  AtomicFile first(path), second(path);
  first.write("a", 1);
  second.write("bb", 2);
  second.commit();
  first.commit();
  CHECK(read_file(path).size() == 1);
  CHECK(directory.count() == 1);
}

TEST_CASE("atomic file: the user's umask decides who may read it") {
  const TemporaryDirectory directory;
  const mode_t before = ::umask(022);
  AtomicFile file(directory / "file");
  ::umask(before);
  file.commit();
  struct stat status;
  REQUIRE(::stat((directory / "file").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0644);
}

TEST_CASE("atomic file: places where nothing can be written") {
  const TemporaryDirectory directory;
  const std::string missing = directory / "missing/file", itself = directory / "";
  expect_error(Code::file, {missing, "No such file or directory"}, [&] { AtomicFile file(missing); });
  expect_error(Code::file, {itself, "no regular file"}, [&] { AtomicFile file(itself); });
  expect_error(Code::file, {"/dev/null", "no regular file"}, [&] { AtomicFile file("/dev/null"); });
  CHECK(directory.count() == 0);
}

TEST_CASE("atomic file: a target that turns into a directory on the way") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  AtomicFile file(path);
  file.write("abc", 3);
  std::filesystem::create_directory(path);
  expect_error(Code::file, {path, "cannot be replaced", "directory"}, [&] { file.commit(); });
  CHECK(directory.count() == 1);
}

TEST_CASE("atomic file: a full disk leaves nothing behind") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  const std::vector<char> much(1 << 20);
  {
    AtomicFile file(path);
    const FileSizeLimit limit(64 << 10);
    expect_error(Code::file, {path, "cannot be written", "File too large"},
                 [&] { file.write(much.data(), much.size()); });
    expect_error(Code::file, {path, "earlier write failed"}, [&] { file.commit(); });
  }
  CHECK(directory.count() == 0);
  {
    // Little enough to wait in the buffer until commit().
    AtomicFile file(path);
    const FileSizeLimit limit(1);
    file.write(much.data(), 100);
    expect_error(Code::file, {path, "cannot be written", "File too large"}, [&] { file.commit(); });
    CHECK(directory.count() == 0);
  }
}
