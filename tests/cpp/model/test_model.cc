#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/environment.h"
#include "base/thread_pool.h"
#include "io/expect_error.h"
#include "io/temporary_directory.h"
#include "kernels/inputs.h"
#include "model/made_models.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

const Config kSmall{8, 12, 2, 2, 2, 11, 6, true};

std::vector<std::byte> small_file(Format format = Format::v0) {
  return make_checkpoint(kSmall, format, format == Format::v2 ? 8 : 0).bytes;
}

}  // namespace

TEST_CASE("model: from a path and from bytes it is the same model") {
  const TemporaryDirectory directory;
  for (Format format : {Format::v0, Format::v1, Format::v2}) {
    const std::vector<std::byte> bytes = small_file(format);
    write_file(directory / "model.bin", bytes);
    Model mapped(directory / "model.bin", {}), copied(bytes, {});
    CHECK(mapped.source_bytes() == bytes.size());
    CHECK(copied.source_bytes() == bytes.size());
    CHECK(mapped.weights().dtype == (format == Format::v2 ? DType::int8 : DType::float32));
    CHECK(same(logits_of(mapped, {1, 2, 3}), logits_of(copied, {1, 2, 3})));
    mapped.check_source();
    copied.check_source();
  }
}

TEST_CASE("model: bytes are copied") {
  std::vector<std::byte> bytes = small_file();
  Model model(bytes, {});
  const std::vector<float> before = logits_of(model, {1, 2, 3});
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  CHECK(same(logits_of(model, {1, 2, 3}), before));
}

TEST_CASE("model: threads that were asked for, else TINYZH_THREADS, else the cores") {
  const std::vector<std::byte> bytes = small_file();
  auto threads = [&](int asked) { return Model(bytes, {{}, asked, ""}).pool().threads(); };
  {
    const Environment unset("TINYZH_THREADS", nullptr);
    CHECK(threads(0) == static_cast<size_t>(default_threads()));
    CHECK(threads(3) == 3);
  }
  {
    const Environment empty("TINYZH_THREADS", "");
    CHECK(threads(0) == static_cast<size_t>(default_threads()));
  }
  const Environment five("TINYZH_THREADS", "5");
  CHECK(threads(0) == 5);
  CHECK(threads(2) == 2);
}

TEST_CASE("model: a number of threads that makes no sense is an error") {
  const std::vector<std::byte> bytes = small_file();
  for (int asked : {-1, 257})
    expect_error(Code::invalid_argument, {"threads", std::to_string(asked), "1 to 256"},
                 [&] { Model(bytes, {{}, asked, ""}); });
  for (const char* text : {"0", "-2", "257", "two", "2x", " 2", "2 ", "1e1", "99999999999999999999"}) {
    const Environment variable("TINYZH_THREADS", text);
    expect_error(Code::invalid_argument, {"TINYZH_THREADS", text, "1 to 256"}, [&] { Model(bytes, {}); });
    CHECK(Model(bytes, {{}, 1, ""}).pool().threads() == 1);  // not asked, not looked at
  }
}

TEST_CASE("model: the instruction set that was asked for, else TINYZH_ISA") {
  const std::vector<std::byte> bytes = small_file();
  CHECK(&Model(bytes, {{}, 1, "scalar"}).kernels() == &kScalarKernels);
  expect_error(Code::backend, {"'sse9'"}, [&] { Model(bytes, {{}, 1, "sse9"}); });
  const Environment variable("TINYZH_ISA", "scalar");
  CHECK(&Model(bytes, {{}, 1, ""}).kernels() == &kScalarKernels);
}

TEST_CASE("model: what is no checkpoint, or not there, is an error with its name") {
  const TemporaryDirectory directory;
  expect_error(Code::file, {"missing.bin"}, [&] { Model(directory / "missing.bin", {}); });
  write_file(directory / "page.bin", as_bytes("<!DOCTYPE html><html>"));
  expect_error(Code::checkpoint, {"page.bin"}, [&] { Model(directory / "page.bin", {}); });
  expect_error(Code::checkpoint, {"the bytes given"}, [&] { Model(as_bytes("nothing"), {}); });
  expect_error(Code::checkpoint, {"the bytes given"}, [&] { Model(std::span<const std::byte>(), {}); });
  std::vector<std::byte> cut = small_file();
  cut.pop_back();
  expect_error(Code::checkpoint, {"the bytes given"}, [&] { Model(cut, {}); });
}

TEST_CASE("model: a file cut short after it was opened is an error, not a crash") {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.bin";
  write_file(path, small_file());
  const Model model(path, {});
  model.check_source();
  std::filesystem::resize_file(path, 100);
  expect_error(Code::checkpoint, {"model.bin", "shorter", std::to_string(small_file().size())}, [&] { model.check_source(); });
  write_file(path, small_file());
  model.check_source();
}
