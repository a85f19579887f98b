#include "model/pack.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/crc32.h"
#include "base/numerics.h"
#include "io/expect_error.h"
#include "io/make_checkpoint.h"
#include "io/temporary_directory.h"
#include "io/tz.h"
#include "io/tz_layout.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

constexpr std::array kTypes = {DType::float32, DType::int8, DType::int4};

struct Buffer {  // aligned, as a mapped file is
  explicit Buffer(std::span<const std::byte> from) : bytes(from.size()) {
    if (!from.empty()) std::memcpy(bytes.data(), from.data(), from.size());
  }
  template <class T>
  void set(size_t offset, T value) { std::memcpy(&bytes[offset], &value, sizeof value); }
  template <class T>
  T get(size_t offset) const {
    T value;
    std::memcpy(&value, &bytes[offset], sizeof value);
    return value;
  }
  void seal() { set(offsetof(TzHeader, checksum), tz_checksum(bytes)); }
  AlignedBuffer<std::byte> bytes;
};

Weights open(std::span<const std::byte> bytes, DType dtype) {
  static ThreadPool pool(1);
  return Weights(parse_checkpoint(bytes, "input"), dtype, choose_kernels("scalar"), pool);
}

Buffer packed(const Case& c, DType dtype) {
  const TemporaryDirectory directory;
  const std::string path = directory / "model.tz";
  const Buffer made(make_checkpoint(c.config, c.format, c.group_size).bytes);
  write_tz(path, open(made.bytes, dtype));
  CHECK(directory.count() == 1);
  return Buffer(read_file(path));
}

Buffer small(DType dtype = DType::int8) { return packed(cases().front(), dtype); }

void refused(const Buffer& buffer, std::initializer_list<std::string> words) {
  expect_error(Code::checkpoint, words, [&] {
    const Checkpoint checkpoint = parse_checkpoint(buffer.bytes, "input");
    open(buffer.bytes, own_dtype(checkpoint));
  });
}

size_t entry(size_t index, size_t field) { return sizeof(TzHeader) + index * sizeof(TzEntry) + field; }

size_t table_end(const Buffer& buffer) { return entry(buffer.get<uint32_t>(offsetof(TzHeader, entries)), 0); }

bool same(const Matrix& a, const Matrix& b) {
  std::vector<float> x(a.cols), y(b.cols);
  bool equal = a.rows == b.rows && a.cols == b.cols && a.bytes() == b.bytes();
  for (size_t r = 0; equal && r < a.rows; ++r) {
    a.row(r, x.data());
    b.row(r, y.data());
    equal = std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
  }
  return equal;
}

}  // namespace

TEST_CASE("tz: every format and dtype comes back as it was, in place") {
  for (const Case& c : cases())
    for (const DType dtype : kTypes) {
      CAPTURE(c.name);
      CAPTURE(dtype_name(dtype));
      const Buffer made(make_checkpoint(c.config, c.format, c.group_size).bytes);
      const Weights before = open(made.bytes, dtype);
      const Buffer buffer = packed(c, dtype);
      verify_tz(buffer.bytes, "input");
      const Checkpoint checkpoint = parse_checkpoint(buffer.bytes, "input");
      CHECK(checkpoint.format == Format::tz);
      CHECK(own_dtype(checkpoint) == dtype);
      const Weights after = open(buffer.bytes, dtype);
      CHECK(after.owned_bytes() == 0);
      CHECK(after.bytes_per_token() == before.bytes_per_token());
      CHECK(same(before.tok_emb, after.tok_emb));
      CHECK(same(before.wcls(), after.wcls()));
      for (size_t l = 0; l < before.layers.size(); ++l) {
        for (const auto member : {&LayerWeights::wq, &LayerWeights::wk, &LayerWeights::wv, &LayerWeights::wo,
                                  &LayerWeights::w1, &LayerWeights::w2, &LayerWeights::w3})
          CHECK(same(before.layers[l].*member, after.layers[l].*member));
        for (const auto member : {&LayerWeights::rms_att, &LayerWeights::rms_ffn})
          CHECK(std::memcmp(before.layers[l].*member, after.layers[l].*member, before.config.dim * sizeof(float)) == 0);
      }
    }
}

TEST_CASE("tz: a packed file has one dtype") {
  const Buffer buffer = small(DType::int4);
  for (const DType other : {DType::float32, DType::int8})
    expect_error(Code::invalid_argument, {std::string(dtype_name(other)), "int4", "dtype auto"},
                 [&] { open(buffer.bytes, other); });
}

TEST_CASE("tz: no length but the right one") {
  const Buffer whole = small();
  const std::span<const std::byte> bytes = whole.bytes;
  for (size_t size = kTzMagic.size(); size < bytes.size(); ++size) {
    CAPTURE(size);
    CHECK_THROWS_AS(parse_checkpoint(bytes.first(size), "input"), Error);
  }
  std::vector<std::byte> longer(bytes.begin(), bytes.end());
  longer.push_back(std::byte{0});
  refused(Buffer(longer), {"input", "bytes"});
  Buffer admitted(longer);  // by its header
  admitted.set(offsetof(TzHeader, file_bytes), uint64_t{longer.size()});
  admitted.seal();
  refused(admitted, {"input", "tensors end at " + std::to_string(bytes.size())});
}

TEST_CASE("tz: every flipped bit of header and table is seen at once, of the rest by verify_tz") {
  for (const DType dtype : kTypes) {
    Buffer buffer = small(dtype);
    const size_t end = table_end(buffer);
    for (size_t i = kTzMagic.size(); i < buffer.bytes.size(); ++i) {
      CAPTURE(i);
      buffer.bytes[i] ^= std::byte{1} << i % 8;
      if (i < end) {
        CHECK_THROWS_AS(parse_checkpoint(buffer.bytes, "input"), Error);
      } else {
        CHECK_NOTHROW(parse_checkpoint(buffer.bytes, "input"));
        CHECK_THROWS_AS(verify_tz(buffer.bytes, "input"), Error);
      }
      buffer.bytes[i] ^= std::byte{1} << i % 8;
    }
    CHECK_NOTHROW(verify_tz(buffer.bytes, "input"));
  }
}

TEST_CASE("tz: verify_tz names the tensor") {
  Buffer buffer = small();
  const size_t index = 1 + 2 + 1;  // tok_emb, rms_att of two layers, wq of layer 0; so wq of layer 1
  buffer.bytes[static_cast<size_t>(buffer.get<uint64_t>(entry(index, offsetof(TzEntry, offset))))] ^= std::byte{1};
  expect_error(Code::checkpoint, {"input", "wq, layer 1", "checksum"}, [&] { verify_tz(buffer.bytes, "input"); });
}

TEST_CASE("tz: what the checksum vouches for is not believed either") {
  constexpr auto kHuge = std::numeric_limits<uint64_t>::max();
  const auto with = [](size_t offset, auto value, std::initializer_list<std::string> words) {
    CAPTURE(offset);
    Buffer buffer = small();
    buffer.set(offset, value);
    buffer.seal();
    refused(buffer, words);
  };
  with(offsetof(TzHeader, version), uint32_t{2}, {"version 2", "version 1"});
  with(offsetof(TzHeader, dims), int32_t{-8}, {"dim is -8"});
  with(offsetof(TzHeader, dims) + 4, int32_t{13}, {"entry"});
  with(offsetof(TzHeader, tied), uint32_t{2}, {"tied classifier is 2"});
  with(offsetof(TzHeader, dtype), uint32_t{3}, {"dtype 3"});
  with(offsetof(TzHeader, dtype), uint32_t{2}, {"entry 0"});
  with(offsetof(TzHeader, norm_eps), std::numeric_limits<float>::quiet_NaN(), {"norm_eps is nan"});
  with(offsetof(TzHeader, rope_theta), 0.0, {"rope_theta is 0"});
  with(offsetof(TzHeader, group_size), uint32_t{3}, {"group_size is 3", "divide dim"});
  with(offsetof(TzHeader, entries), uint32_t{1}, {"1 tensors"});
  with(offsetof(TzHeader, entries), UINT32_MAX, {"table", "does not fit"});
  with(offsetof(TzHeader, table_offset), uint64_t{320}, {"table", "320"});
  with(offsetof(TzHeader, file_bytes), kHuge, {"header says 18446744073709551615"});
  with(offsetof(TzHeader, zeros), uint8_t{1}, {"not zero from byte 92"});
  with(offsetof(TzHeader, numerics), uint32_t{0}, {"numerics version", "at least 1"});
  with(entry(0, offsetof(TzEntry, kind)), uint32_t{3}, {"entry 0", "tok_emb"});
  with(entry(0, offsetof(TzEntry, rows)), UINT32_MAX, {"entry 0", "tok_emb"});
  with(entry(3, offsetof(TzEntry, layer)), uint32_t{1}, {"entry 3", "wq, layer 0"});
  with(entry(2, offsetof(TzEntry, bytes)), kHuge, {"entry 2", "rms_att, layer 1"});
  with(entry(0, offsetof(TzEntry, bytes)), kHuge, {"ends behind"});
  with(entry(0, offsetof(TzEntry, bytes)), kHuge - 63, {"ends behind"});
  with(entry(0, offsetof(TzEntry, bytes)), uint64_t{1} << 40, {"ends behind"});
  with(entry(0, offsetof(TzEntry, bytes)), uint64_t{1}, {"entry 0"});
  with(entry(0, offsetof(TzEntry, zeros)), uint8_t{1}, {"entry 0"});
  const auto first = small().get<uint64_t>(entry(0, offsetof(TzEntry, offset)));
  with(entry(0, offsetof(TzEntry, offset)), first + 4, {"entry 0"});      // misaligned
  with(entry(1, offsetof(TzEntry, offset)), first, {"entry 1"});          // overlaps the first
  with(entry(0, offsetof(TzEntry, offset)), kHuge - 63, {"entry 0"});
}

// The file with 64 bytes more for one tensor, and everything behind it moved.
Buffer longer_by_64(const Buffer& buffer, size_t index) {
  const auto number = [&](size_t i, size_t field) { return buffer.get<uint64_t>(entry(i, field)); };
  const auto bytes = number(index, offsetof(TzEntry, bytes));
  std::vector<std::byte> longer(buffer.bytes.data(), buffer.bytes.data() + buffer.bytes.size());
  const auto start = static_cast<std::ptrdiff_t>(number(index, offsetof(TzEntry, offset)));
  longer.insert(longer.begin() + start, 64, std::byte{0});
  Buffer changed(longer);
  changed.set(entry(index, offsetof(TzEntry, bytes)), bytes + 64);
  for (size_t i = index + 1; i < buffer.get<uint32_t>(offsetof(TzHeader, entries)); ++i)
    changed.set(entry(i, offsetof(TzEntry, offset)), number(i, offsetof(TzEntry, offset)) + 64);
  changed.set(offsetof(TzHeader, file_bytes), uint64_t{longer.size()});
  changed.seal();
  return changed;
}

TEST_CASE("tz: a matrix of another size than its layout is refused before it is used") {
  const size_t tok_emb = 0, last_w3 = 18, last_rms_ffn = 12;
  for (const DType dtype : {DType::int8, DType::int4}) {
    const Buffer buffer = small(dtype);
    const auto bytes = buffer.get<uint64_t>(entry(tok_emb, offsetof(TzEntry, bytes)));
    refused(longer_by_64(buffer, tok_emb), {std::to_string(bytes), std::to_string(bytes + 64)});
    refused(longer_by_64(buffer, last_w3), {"entry 18", "w3, layer 1"});  // layers are of one size
  }
  refused(longer_by_64(small(DType::float32), tok_emb), {"entry 0", "tok_emb"});
  refused(longer_by_64(small(DType::int8), last_rms_ffn), {"entry 12", "rms_ffn, layer 1"});
}

// A number that changes here means that older files would be read wrongly (raise kTzVersion) or that other
// weights come out of the same checkpoint (raise kNumericsVersion).
TEST_CASE("tz: the bytes of the tensors are those of version 1") {
  const auto data = [](const std::string& name, DType dtype) {
    for (const Case& c : cases())
      if (c.name == name) {
        const Buffer buffer = packed(c, dtype);
        return crc32(std::span<const std::byte>(buffer.bytes).subspan(table_end(buffer)));
      }
    return 0u;
  };
  CHECK(kTzVersion == 1);
  CHECK(data("v0 odd", DType::float32) == 2889113227u);
  CHECK(data("v0 odd", DType::int8) == 2255519359u);
  CHECK(data("v0 odd", DType::int4) == 2073551453u);
  CHECK(data("v2 172 in groups of 32", DType::int8) == 550626251u);
}

TEST_CASE("tz: a file made by another numerics version opens, and says which") {
  Buffer buffer = small(DType::int4);
  CHECK(parse_checkpoint(buffer.bytes, "input").numerics == kNumericsVersion);
  buffer.set(offsetof(TzHeader, numerics), uint32_t{kNumericsVersion + 1});
  buffer.seal();
  CHECK(parse_checkpoint(buffer.bytes, "input").numerics == kNumericsVersion + 1);
}

TEST_CASE("tz: the group size is kept, and int4 made of an int8 file has none") {
  const Case straddling = cases()[10];
  CHECK(parse_checkpoint(packed(straddling, DType::int8).bytes, "input").group_size == 32);
  CHECK(parse_checkpoint(packed(straddling, DType::int4).bytes, "input").group_size == 0);
}

TEST_CASE("tz: progress is told, and stops the work by throwing") {
  struct Stop {};
  const TemporaryDirectory directory;
  const Buffer made(make_checkpoint(cases().front().config, Format::v0).bytes);
  const Checkpoint checkpoint = parse_checkpoint(made.bytes, "input");
  const Kernels& kernels = choose_kernels("scalar");
  ThreadPool one(1), three(3);
  std::vector<size_t> told;
  const auto tell = [&](size_t done, size_t total) {
    CHECK(total == 1 + 7 * 2);
    told.push_back(done);
  };
  const Weights weights(checkpoint, DType::int4, kernels, one, tell);
  std::vector<size_t> expected;
  for (size_t i = 1; i <= 15; ++i) expected.push_back(i);
  CHECK(told == expected);
  size_t calls = 0;
  const auto stop = [&](size_t, size_t) {
    ++calls;
    throw Stop();
  };
  CHECK_THROWS_AS(Weights(checkpoint, DType::int4, kernels, one, stop), Stop);
  CHECK(calls == 1);
  // With more threads the caller's may find nothing left to do, and then hears nothing.
  told.clear();
  const Weights shared(checkpoint, DType::int8, kernels, three, tell);
  CHECK(std::is_sorted(told.begin(), told.end()));

  told.clear();
  const auto written = [&](size_t done, size_t total) {
    CHECK(total == 1 + 9 * 2 + 1);
    told.push_back(done);
  };
  write_tz(directory / "x", weights, written);
  CHECK(told.size() == 20);
  CHECK(told.back() == 20);
  CHECK_THROWS_AS(write_tz(directory / "y", weights, stop), Stop);
  CHECK(directory.count() == 1);
}

TEST_CASE("tz: what cannot be written") {
  const TemporaryDirectory directory;
  Config config = cases().front().config;
  config.norm_eps = 0;
  expect_error(Code::invalid_argument, {"norm_eps"},
               [&] { write_tz(directory / "x", config, Packing::none, 0, {}); });
  config = cases().front().config;
  expect_error(Code::invalid_argument, {"group_size is 4"},
               [&] { write_tz(directory / "x", config, Packing::q4, 4, {}); });
  CHECK(directory.count() == 0);
}
