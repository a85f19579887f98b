#include "model/model.h"

#include <charconv>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/error.h"
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

Device choose_device(std::optional<Device> asked) {
  if (asked) return *asked;
  const char* variable = std::getenv("TINYZH_DEVICE");
  if (!variable || !*variable) return Device::cpu;
  for (Device device : {Device::cpu, Device::cuda})
    if (device_name(device) == variable) return device;
  fail(Code::backend, "TINYZH_DEVICE is '", variable, "': expected cpu or cuda");
}

std::string_view rounding_name(Rounding rounding) { return rounding == Rounding::bfloat16 ? "bfloat16" : "float16"; }

// The rounding, where there is something that computes with it.
Rounding checked_rounding(const ModelOptions& options, Device device) {
  if (options.rounding != Rounding::none && device == Device::cpu)
    fail(Code::backend, "dtype is ", rounding_name(options.rounding),
         ", which device cuda has and the CPU has not: take float32, int8 or int4");
  return options.rounding;
}

Weights load(const Source& source, const ModelOptions& options, const Kernels& kernels, ThreadPool& pool) {
  const StandardFloatingPoint standard;
  const DType dtype = options.dtype.value_or(own_dtype(source.checkpoint()));
  return {source.checkpoint(), dtype, kernels, pool, options.progress, options.allocator};
}

}  // namespace

void set_dtype(ModelOptions& options, std::string_view name) {
  options.dtype = std::nullopt;
  options.rounding = Rounding::none;
  if (name == "auto") return;
  for (Rounding rounding : {Rounding::float16, Rounding::bfloat16})
    if (name == rounding_name(rounding)) {
      options.dtype = DType::float32;
      options.rounding = rounding;
      return;
    }
  for (DType dtype : {DType::float32, DType::int8, DType::int4})
    if (name == dtype_name(dtype)) {
      options.dtype = dtype;
      return;
    }
  fail(Code::invalid_argument, "dtype is '", name, "': expected auto, float32, int8 or int4, on a GPU also float16 or bfloat16");
}

std::string_view Model::dtype_name() const {
  return rounding_ == Rounding::none ? tinyzh::dtype_name(weights_.dtype) : rounding_name(rounding_);
}

std::string_view device_name(Device device) { return device == Device::cuda ? "cuda" : "cpu"; }

Model::Model(std::shared_ptr<const Source> source, const ModelOptions& options)
    : source_(std::move(source)),
      checkpoint_(source_->checkpoint()),
      source_bytes_(source_->bytes()),
      kernels_(&choose_kernels(options.isa)),
      device_(choose_device(options.device)),
      rounding_(checked_rounding(options, device_)),
      allocator_(options.allocator),
      pool_(choose_threads(options.threads)),
      weights_(load(*source_, options, *kernels_, pool_)),
      kv_type_(options.kv_type.value_or(weights_.dtype == DType::float32 && rounding_ == Rounding::none ? KvType::float32 : KvType::float16)) {
  if (!weights_.independent) return;
  fingerprint_ = source_->fingerprint();
  source_.reset();
  source_bytes_ = 0;
  for (TensorView& tensor : checkpoint_.tensors) tensor.data = nullptr;
}

Model::Model(const std::string& path, const ModelOptions& options)
    : Model(std::make_shared<const Source>(path), options) {}

Model::Model(std::span<const std::byte> bytes, const ModelOptions& options)
    : Model(std::make_shared<const Source>(bytes, options.allocator), options) {}

}  // namespace tinyzh
