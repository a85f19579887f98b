// A checkpoint opened for use: file, weights, kernels and threads in one place.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/aligned.h"
#include "base/thread_pool.h"
#include "io/checkpoint.h"
#include "io/mapped_file.h"
#include "kernels/kernels.h"
#include "model/kv_cache.h"
#include "model/weights.h"

namespace tinyzh {

struct ModelOptions {
  std::optional<DType> dtype;  // none: the file's own precision
  int threads = 0;             // 0: TINYZH_THREADS, else default_threads()
  std::string isa;             // empty: TINYZH_ISA, else the best that works
  std::optional<KvType> kv_type = std::nullopt;  // none: float32 with float32 weights, else float16
  std::function<void(size_t, size_t)> progress = {};  // told of the matrices quantised, as by Weights
  Allocator allocator = Allocator::system();  // for the model and its engine, as long as they live
};

class Model {
 public:
  static constexpr int kMaxThreads = 256;

  Model(const std::string& path, const ModelOptions& options);              // mapped, used in place
  Model(std::span<const std::byte> bytes, const ModelOptions& options);     // copied
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Config& config() const { return checkpoint_.config; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const Weights& weights() const { return *weights_; }
  const Kernels& kernels() const { return *kernels_; }
  ThreadPool& pool() { return pool_; }
  const Allocator& allocator() const { return allocator_; }
  KvLayout kv_layout() const { return {config(), kv_type_}; }
  size_t file_bytes() const;
  // Of the shape and of samples all over the file: other weights, another number.
  uint64_t fingerprint() const;

  // Throws Error(Code::checkpoint) when the file has been cut short since it was opened.
  void check_file() const;

 private:
  void load(const ModelOptions& options, std::span<const std::byte> bytes, std::string_view name);

  const Kernels* kernels_;
  const Allocator allocator_;
  KvType kv_type_ = KvType::float32;
  ThreadPool pool_;
  std::optional<MappedFile> file_;
  AlignedBuffer<std::byte> memory_;
  Checkpoint checkpoint_;
  std::optional<Weights> weights_;
};

}  // namespace tinyzh
