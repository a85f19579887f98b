#include "engine/backends.h"

#include <string>

#include "base/error.h"
#include "model/forward.h"

#ifdef TINYZH_CUDA
#include "cuda/gpu.h"
#endif

namespace tinyzh {

std::vector<Device> built_devices() {
#ifdef TINYZH_CUDA
  return {Device::cpu, Device::cuda};
#else
  return {Device::cpu};
#endif
}

std::string cuda_build() {
#ifdef TINYZH_CUDA
  return cuda::build_facts();
#else
  return {};
#endif
}

Device device_of(std::string_view name) {
  std::string names;
  for (Device device : built_devices()) {
    if (device_name(device) == name) return device;
    names += concat(names.empty() ? "" : " or ", device_name(device));
  }
  fail(Code::backend, "device is '", name, "': this build has ", names);
}

std::unique_ptr<Backend> make_backend(Model& model, [[maybe_unused]] size_t ahead) {
  if (model.device() == Device::cpu)
    return std::make_unique<Forward>(model.weights(), model.kv_layout().type, model.kernels(), model.pool(), model.allocator());
#ifdef TINYZH_CUDA
  return std::make_unique<cuda::Gpu>(model, ahead);
#else
  fail(Code::backend, "device is cuda: this build has no CUDA in it; take device cpu or auto");
#endif
}

}  // namespace tinyzh
