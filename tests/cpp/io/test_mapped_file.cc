#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "io/expect_error.h"
#include "io/make_checkpoint.h"
#include "io/mapped_file.h"
#include "io/temporary_directory.h"

using namespace tinyzh;
using namespace tinyzh::testing;

TEST_CASE("mapped file: the bytes of the file") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  const MadeCheckpoint made = make_checkpoint({8, 12, 2, 2, 2, 11, 6, true}, Format::v0);
  write_file(path, made.bytes);
  const MappedFile file(path);
  CHECK(file.path() == path);
  CHECK(std::ranges::equal(file.bytes(), made.bytes));
  CHECK(file.still_whole());
  CHECK(parse_checkpoint(file.bytes(), path).config.dim == 8);
}

TEST_CASE("mapped file: an empty file is no bytes") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  write_file(path, {});
  const MappedFile file(path);
  CHECK(file.bytes().empty());
  CHECK(file.still_whole());
  expect_error(Code::checkpoint, {path, "empty"}, [&] { parse_checkpoint(file.bytes(), path); });
}

TEST_CASE("mapped file: what is no regular file") {
  const TemporaryDirectory directory;
  const std::string missing = directory / "missing", folder = directory / "", pipe = directory / "pipe";
  expect_error(Code::file, {missing, "No such file or directory"}, [&] { MappedFile file(missing); });
  expect_error(Code::checkpoint, {folder, "a directory"}, [&] { MappedFile file(folder); });
  expect_error(Code::file, {"/dev/null", "a device"}, [&] { MappedFile file("/dev/null"); });
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  expect_error(Code::file, {pipe, "a pipe"}, [&] { MappedFile file(pipe); });  // and does not wait for a writer
}

TEST_CASE("mapped file: a file that shrinks is noticed, one that grows or goes is not missed") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file";
  write_file(path, std::vector<std::byte>(10000));
  const MappedFile file(path);
  std::filesystem::resize_file(path, 20000);
  CHECK(file.still_whole());
  std::filesystem::resize_file(path, 9999);
  CHECK(!file.still_whole());
  std::filesystem::resize_file(path, 10000);
  CHECK(file.still_whole());
  std::filesystem::remove(path);  // the name goes, the mapping stays
  CHECK(file.still_whole());
  CHECK(file.bytes().back() == std::byte{0});
}

TEST_CASE("mapped file: the descriptor is closed at the end and by every failure") {
  const TemporaryDirectory directory;
  const std::string path = directory / "file", folder = directory / "";
  write_file(path, std::vector<std::byte>(10));
  const auto lowest_free = [] {
    const int descriptor = ::open("/dev/null", O_RDONLY);
    ::close(descriptor);
    return descriptor;
  };
  const int before = lowest_free();
  for (int i = 0; i < 3; ++i) {
    const MappedFile file(path);
    CHECK_THROWS(MappedFile(folder));
  }
  CHECK(lowest_free() == before);
}
