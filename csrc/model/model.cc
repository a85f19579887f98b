#include "model/model.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/fnv1a.h"
#include "base/fp_env.h"

namespace tinyzh {
namespace {

int choose_threads(int asked) {
  auto check = [](long n, std::string_view what, std::string_view text) {
    if (n < 1 || n > Model::kMaxThreads)
      fail(Code::invalid_argument, what, " is ", text, ": expected a number of threads from 1 to ", Model::kMaxThreads);
    return static_cast<int>(n);
  };
  if (asked != 0) return check(asked, "threads", std::to_string(asked));
  const char* variable = std::getenv("TINYZH_THREADS");
  if (!variable || !*variable) return default_threads();
  const std::string_view text = variable;
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  return check(whole ? n : 0, "TINYZH_THREADS", text);
}

}  // namespace

Model::Model(const std::string& path, const ModelOptions& options)
    : kernels_(&choose_kernels(options.isa)), allocator_(options.allocator), pool_(choose_threads(options.threads)) {
  file_.emplace(path);
  load(options, file_->bytes(), path);
}

Model::Model(std::span<const std::byte> bytes, const ModelOptions& options)
    : kernels_(&choose_kernels(options.isa)),
      allocator_(options.allocator),
      pool_(choose_threads(options.threads)),
      memory_(bytes.size(), allocator_) {
  if (!bytes.empty()) std::memcpy(memory_.data(), bytes.data(), bytes.size());
  load(options, memory_, "the bytes given");
}

void Model::load(const ModelOptions& options, std::span<const std::byte> bytes, std::string_view name) {
  const StandardFloatingPoint standard;
  checkpoint_ = parse_checkpoint(bytes, name);
  const DType dtype = options.dtype.value_or(own_dtype(checkpoint_));
  kv_type_ = options.kv_type.value_or(dtype == DType::float32 ? KvType::float32 : KvType::float16);
  weights_.emplace(checkpoint_, dtype, *kernels_, pool_, options.progress, allocator_);
}

uint64_t Model::fingerprint() const {
  constexpr size_t kSamples = 512, kBytes = 64;
  const Config& c = config();
  const int32_t shape[] = {c.dim, c.hidden_dim, c.n_layers, c.n_heads, c.n_kv_heads, c.vocab_size, c.seq_len};
  uint64_t hash = fnv1a(std::as_bytes(std::span(shape)));
  check_file();
  const std::span<const std::byte> bytes = file_ ? file_->bytes() : std::span<const std::byte>(memory_);
  const size_t step = std::max<size_t>(kBytes, bytes.size() / kSamples);
  for (size_t at = 0; at < bytes.size(); at += step) hash = fnv1a(bytes.subspan(at, std::min(kBytes, bytes.size() - at)), hash);
  return hash;
}

size_t Model::file_bytes() const { return file_ ? file_->bytes().size() : memory_.size(); }

void Model::check_file() const {
  if (file_ && !file_->still_whole())
    fail(Code::checkpoint, file_->path(), ": the file became shorter than the ", file_->bytes().size(),
         " bytes it had when it was opened; open it again once it is whole");
}

}  // namespace tinyzh
