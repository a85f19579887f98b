#include "model/source.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "base/fnv1a.h"

namespace tinyzh {

Source::Source(const std::string& path)
    : file_(path), runs_{file_->bytes()}, checkpoint_(parse_checkpoint(file_->bytes(), path)) {}

Source::Source(std::span<const std::byte> bytes, const Allocator& allocator) : memory_(bytes.size(), allocator) {
  if (!bytes.empty()) std::memcpy(memory_.data(), bytes.data(), bytes.size());
  runs_ = {memory_};
  checkpoint_ = parse_checkpoint(memory_, "the bytes given");
}

Source::Source(const Config& config, const TensorArrays& arrays, std::shared_ptr<const void> keeper)
    : keeper_(std::move(keeper)), checkpoint_(checkpoint_of_arrays(config, arrays)) {
  for (const std::span<const float> array : arrays) runs_.push_back(std::as_bytes(array));
}

size_t Source::bytes() const {
  size_t sum = 0;
  for (const auto& run : runs_) sum += run.size();
  return sum;
}

uint64_t Source::fingerprint() const {
  constexpr size_t kSamples = 512, kBytes = 64;
  const Config& c = checkpoint_.config;
  const int32_t shape[] = {c.dim, c.hidden_dim, c.n_layers, c.n_heads, c.n_kv_heads, c.vocab_size, c.seq_len};
  uint64_t hash = fnv1a(std::as_bytes(std::span(shape)));
  check_whole();
  const size_t step = std::max<size_t>(kBytes, bytes() / kSamples);
  size_t at = 0;  // of the next sample in this run, or beyond its end
  for (const auto& run : runs_) {
    for (; at < run.size(); at += step) hash = fnv1a(run.subspan(at, std::min(kBytes, run.size() - at)), hash);
    at -= run.size();
  }
  return hash;
}

void Source::check_whole() const {
  if (file_ && !file_->still_whole())
    fail(Code::checkpoint, file_->path(), ": the file became shorter than the ", file_->bytes().size(),
         " bytes it had when it was opened; open it again once it is whole");
}

}  // namespace tinyzh
