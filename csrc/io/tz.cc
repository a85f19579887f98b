#include "io/tz.h"

#include <cstring>
#include <optional>

#include "base/checked.h"
#include "base/crc32.h"
#include "base/error.h"
#include "io/layout.h"
#include "io/load.h"
#include "io/tz_layout.h"

namespace tinyzh {
namespace {

using Bytes = std::span<const std::byte>;
constexpr std::string_view kAgain = "; the file is damaged or incomplete: convert or download it again";

// The entries of a file with this header, whose numbers make sense.
uint64_t entry_count(const Config& config) {
  uint64_t count = 0;
  for (size_t i = 0; i < kTensorCount; ++i) count += tensor_shape(config, static_cast<TensorId>(i)).layers;
  return count;
}

Config config_of(const TzHeader& h) {
  return {h.dims[0], h.dims[1], h.dims[2], h.dims[3],  h.dims[4],
          h.dims[5], h.dims[6], h.tied == 1, h.norm_eps, h.rope_theta};
}

// The header and everything that can be said without the table.
TzHeader parse_header(Bytes bytes, std::string_view name) {
  if (bytes.size() < sizeof(TzHeader))
    fail(Code::checkpoint, name, ": ends inside its header: ", bytes.size(), " of ", sizeof(TzHeader), " bytes",
         kAgain);
  const auto header = load<TzHeader>(bytes.data());
  if (header.version != kTzVersion)
    fail(Code::checkpoint, name, ": a tz file of version ", header.version, "; this program reads version ", kTzVersion,
         ": convert the original checkpoint again, or take a newer program");
  const uint64_t table = uint64_t{header.entries} * sizeof(TzEntry);  // below 2^38
  if (header.table_offset != sizeof(TzHeader) || table > bytes.size() - sizeof(TzHeader))
    fail(Code::checkpoint, name, ": its table of ", header.entries, " tensors at ", header.table_offset,
         " does not fit its ", bytes.size(), " bytes, or is not at ", sizeof(TzHeader), kAgain);
  if (const uint32_t found = tz_checksum(bytes); found != header.checksum)
    fail(Code::checkpoint, name, ": header and table have the checksum ", found, " where the file says ",
         header.checksum, kAgain);
  if (header.tied > 1 || header.dtype > 2)
    fail(Code::checkpoint, name, ": the flag for a tied classifier is ", header.tied, " and the dtype ", header.dtype,
         ", which must be at most 1 and 2", kAgain);
  const Config config = config_of(header);
  if (const std::string problem = tz_problem(config, static_cast<Packing>(header.dtype), header.group_size);
      !problem.empty())
    fail(Code::checkpoint, name, ": ", problem, kAgain);
  if (header.zeros != decltype(header.zeros){})
    fail(Code::checkpoint, name, ": its header is not zero from byte ", offsetof(TzHeader, zeros), " on", kAgain);
  if (header.numerics == 0)
    fail(Code::checkpoint, name, ": the numerics version that made it is 0, which must be at least 1", kAgain);
  if (header.entries != entry_count(config))
    fail(Code::checkpoint, name, ": ", header.entries, " tensors where its header describes ", entry_count(config),
         kAgain);
  if (header.file_bytes != bytes.size())
    fail(Code::checkpoint, name, ": it has ", bytes.size(), " bytes where its header says ", header.file_bytes, kAgain);
  return header;
}

TzEntry entry_at(Bytes bytes, size_t index) {
  return load<TzEntry>(&bytes[sizeof(TzHeader) + index * sizeof(TzEntry)]);
}

// fp32 has one size; of a packed matrix only quant knows it, and here it holds at least its values.
bool plausible(const TzEntry& e) {
  const uint64_t elements = uint64_t{e.rows} * e.cols;  // below 2^37: the header's limits
  if (e.kind <= 1) return e.bytes == elements * sizeof(float);
  return e.bytes >= (e.kind == 2 ? elements : elements / 2);
}

std::string place(const TzEntry& e) {
  return concat(tensor_name(static_cast<TensorId>(e.tensor)), ", layer ", e.layer);
}

}  // namespace

std::string tz_problem(const Config& config, Packing packing, int64_t group_size) {
  const bool groups = group_size != 0;
  if (groups && packing != Packing::q8) return concat("group_size is ", group_size, ", which only int8 has");
  if (std::string problem = header_problem(config, groups ? Format::v2 : Format::v1, group_size); !problem.empty())
    return problem;
  if (!(config.norm_eps > 0 && config.norm_eps < 1))
    return concat("norm_eps is ", config.norm_eps, ", which must be between 0 and 1");
  if (!(config.rope_theta >= 1 && config.rope_theta <= 1e12))
    return concat("rope_theta is ", config.rope_theta, ", which must be from 1 to 1e12");
  return {};
}

TzEntry tz_entry(const Config& config, Packing packing, size_t group_size, TensorId id, size_t layer) {
  const TensorShape shape = tensor_shape(config, id);
  const bool vector = id == TensorId::rms_att || id == TensorId::rms_ffn || id == TensorId::rms_final;
  TzEntry entry;
  entry.tensor = static_cast<uint32_t>(id);
  entry.layer = static_cast<uint32_t>(layer);
  entry.kind = vector ? 0 : 1 + static_cast<uint32_t>(packing);
  entry.rows = static_cast<uint32_t>(shape.rows);
  entry.cols = static_cast<uint32_t>(shape.cols);
  if (entry.kind == 2) entry.group_size = static_cast<uint32_t>(group_size ? group_size : shape.cols);
  return entry;
}

bool is_tz(Bytes bytes) {
  return bytes.size() >= kTzMagic.size() && std::memcmp(bytes.data(), kTzMagic.data(), kTzMagic.size()) == 0;
}

uint32_t tz_checksum(Bytes bytes) {
  auto header = load<TzHeader>(bytes.data());
  header.checksum = 0;
  const uint32_t crc = crc32(std::as_bytes(std::span(&header, 1)));
  const Bytes rest = bytes.subspan(sizeof(TzHeader));
  const uint64_t table = uint64_t{header.entries} * sizeof(TzEntry);
  return table <= rest.size() ? crc32(rest.first(static_cast<size_t>(table)), crc) : crc;
}

Checkpoint parse_tz(Bytes bytes, std::string_view name) {
  const TzHeader header = parse_header(bytes, name);
  Checkpoint checkpoint{Format::tz, config_of(header), header.group_size, {}};
  checkpoint.packing = static_cast<Packing>(header.dtype);
  checkpoint.numerics = header.numerics;
  uint64_t end = sizeof(TzHeader) + uint64_t{header.entries} * sizeof(TzEntry);
  size_t index = 0;
  for (size_t i = 0; i < kTensorCount; ++i) {
    const auto id = static_cast<TensorId>(i);
    TensorView& tensor = checkpoint.tensors[i];
    tensor.shape = tensor_shape(checkpoint.config, id);
    for (size_t layer = 0; layer < tensor.shape.layers; ++layer, ++index) {
      const TzEntry entry = entry_at(bytes, index);
      TzEntry expected = tz_entry(checkpoint.config, checkpoint.packing, checkpoint.group_size, id, layer);
      expected.offset = tz_aligned(end);
      expected.bytes = layer == 0 ? entry.bytes : tensor.layer_bytes;  // the same for every layer
      expected.checksum = entry.checksum;
      if (entry != expected || !plausible(entry))
        fail(Code::checkpoint, name, ": entry ", index, " of its table is not ", place(expected), ", ", expected.rows,
             " x ", expected.cols, " at ", expected.offset, ", or its ", entry.bytes, " bytes are too few or too many",
             kAgain);
      const std::optional<uint64_t> behind = checked_add(entry.offset, entry.bytes);
      if (!behind || *behind > bytes.size())
        fail(Code::checkpoint, name, ": ", place(entry), " ends behind the ", bytes.size(), " bytes of the file",
             kAgain);
      end = *behind;
      if (layer == 0) {
        tensor.data = bytes.data() + entry.offset;
        tensor.layer_bytes = static_cast<size_t>(entry.bytes);
        tensor.layer_stride = static_cast<size_t>(tz_aligned(entry.bytes));
        tensor.group_size = entry.group_size;
        tensor.packing = entry.kind < 2 ? Packing::none : checkpoint.packing;
      }
    }
  }
  if (end != bytes.size())
    fail(Code::checkpoint, name, ": its tensors end at ", end, " and the file at ", bytes.size(), kAgain);
  return checkpoint;
}

void verify_tz(Bytes bytes, std::string_view name) {
  const Checkpoint checkpoint = parse_tz(bytes, name);
  const size_t entries = static_cast<size_t>(entry_count(checkpoint.config));
  size_t end = sizeof(TzHeader) + entries * sizeof(TzEntry);
  for (size_t i = 0; i < entries; ++i) {
    const TzEntry entry = entry_at(bytes, i);
    const auto start = static_cast<size_t>(entry.offset);
    for (size_t at = end; at < start; ++at)
      if (bytes[at] != std::byte{0})
        fail(Code::checkpoint, name, ": byte ", at, ", before ", place(entry), ", is not zero", kAgain);
    end = start + static_cast<size_t>(entry.bytes);
    if (const uint32_t found = crc32(bytes.subspan(start, end - start)); found != entry.checksum)
      fail(Code::checkpoint, name, ": ", place(entry), ": its bytes have the checksum ", found,
           " where the table says ", entry.checksum, kAgain);
  }
}

}  // namespace tinyzh
