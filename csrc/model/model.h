// A checkpoint opened for use: its source, weights, kernels and threads in one place.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/thread_pool.h"
#include "io/checkpoint.h"
#include "kernels/kernels.h"
#include "model/kv_cache.h"
#include "model/source.h"
#include "model/weights.h"

namespace tinyzh {

enum class Device { cpu, cuda };
std::string_view device_name(Device device);

// What a GPU makes of fp32 weights before it computes with them.
enum class Rounding { none, float16, bfloat16 };

struct ModelOptions {
  std::optional<DType> dtype;  // none: the file's own precision
  int threads = 0;             // 0: TINYZH_THREADS, else default_threads()
  std::string isa;             // empty: TINYZH_ISA, else the best that works
  std::optional<KvType> kv_type = std::nullopt;  // none: float32 with float32 weights that stay so, else float16
  std::function<void(size_t, size_t)> progress = {};  // told of the matrices quantised, as by Weights
  std::optional<Device> device = std::nullopt;  // where its engines compute; none: TINYZH_DEVICE, else the CPU
  Allocator allocator = Allocator::system();  // for the model and its engine, as long as they live
  Rounding rounding = Rounding::none;  // of fp32 weights; not on the CPU
};

// The types of weights by name: auto, float32, int8, int4, float16, bfloat16.  Throws Error(Code::invalid_argument).
void set_dtype(ModelOptions& options, std::string_view name);

class Model {
 public:
  static constexpr int kMaxThreads = 256;

  Model(std::shared_ptr<const Source> source, const ModelOptions& options);
  Model(const std::string& path, const ModelOptions& options);           // mapped, used in place
  Model(std::span<const std::byte> bytes, const ModelOptions& options);  // copied
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Config& config() const { return checkpoint_.config; }
  const Checkpoint& checkpoint() const { return checkpoint_; }
  const Weights& weights() const { return weights_; }
  const Kernels& kernels() const { return *kernels_; }
  Device device() const { return device_; }
  Rounding rounding() const { return rounding_; }
  std::string_view dtype_name() const;  // of what is computed with
  ThreadPool& pool() { return pool_; }
  const Allocator& allocator() const { return allocator_; }
  KvLayout kv_layout() const { return {config(), kv_type_}; }
  size_t source_bytes() const { return source_bytes_; }
  uint64_t fingerprint() const { return source_ ? source_->fingerprint() : fingerprint_; }
  void check_source() const {  // throws Error(Code::checkpoint) when its file has been cut short
    if (source_) source_->check_whole();
  }

 private:
  // The weights point into it.  Arrays that were quantised are let go of: then it is null, and so are the
  // pointers of checkpoint_.
  std::shared_ptr<const Source> source_;
  Checkpoint checkpoint_;
  size_t source_bytes_;  // 0 once it was let go of
  uint64_t fingerprint_ = 0;  // of the source that was let go of
  const Kernels* const kernels_;
  const Device device_;
  const Rounding rounding_;
  const Allocator allocator_;
  ThreadPool pool_;
  const Weights weights_;
  const KvType kv_type_;
};

}  // namespace tinyzh
