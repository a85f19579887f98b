#include <algorithm>
#include <array>

#include "base/crc32.h"
#include "base/error.h"
#include "base/numerics.h"
#include "io/atomic_file.h"
#include "io/tz.h"
#include "io/tz_layout.h"

namespace tinyzh {

void write_tz(const std::string& path, const Config& config, Packing packing, size_t group_size,
              std::span<const TzPart> parts, const std::function<void(size_t, size_t)>& progress) {
  const auto group = static_cast<int64_t>(std::min<size_t>(group_size, INT32_MAX));
  if (const std::string problem = tz_problem(config, packing, group); !problem.empty())
    fail(Code::invalid_argument, path, ": cannot be written as tz: ", problem);

  std::vector<TzEntry> table;
  uint64_t end = sizeof(TzHeader) + parts.size() * sizeof(TzEntry);
  for (const TzPart& part : parts) {
    TzEntry entry = tz_entry(config, packing, group_size, part.id, part.layer);
    entry.offset = tz_aligned(end);
    entry.bytes = part.first.size() + part.second.size();
    entry.checksum = crc32(part.second, crc32(part.first));
    end = entry.offset + entry.bytes;
    table.push_back(entry);
  }

  TzHeader header;
  header.version = kTzVersion;
  header.dims = {config.dim,        config.hidden_dim, config.n_layers, config.n_heads,
                 config.n_kv_heads, config.vocab_size, config.seq_len};
  header.tied = config.tied ? 1 : 0;
  header.norm_eps = config.norm_eps;
  header.dtype = static_cast<uint32_t>(packing);
  header.rope_theta = config.rope_theta;
  header.group_size = static_cast<uint32_t>(group_size);
  header.entries = static_cast<uint32_t>(table.size());
  header.table_offset = sizeof(TzHeader);
  header.file_bytes = end;
  header.numerics = kNumericsVersion;
  const auto table_bytes = std::as_bytes(std::span(table));
  header.checksum = crc32(table_bytes, crc32(std::as_bytes(std::span(&header, 1))));

  AtomicFile file(path);
  file.write(&header, sizeof header);
  file.write(table_bytes.data(), table_bytes.size());
  uint64_t at = sizeof header + table_bytes.size();
  constexpr std::array<std::byte, kTzAlignment> kZeros{};
  for (size_t i = 0; i < parts.size(); ++i) {
    file.write(kZeros.data(), static_cast<size_t>(table[i].offset - at));
    file.write(parts[i].first.data(), parts[i].first.size());
    file.write(parts[i].second.data(), parts[i].second.size());
    at = table[i].offset + table[i].bytes;
    if (progress) progress(i + 1, parts.size());
  }
  file.commit();
}

}  // namespace tinyzh
