#include "engine/backends.h"

#include "base/error.h"
#include "model/forward.h"

#ifdef TINYZH_CUDA
#include "cuda/forward.h"
#endif

namespace tinyzh {

std::vector<Device> built_devices() {
#ifdef TINYZH_CUDA
  return {Device::cpu, Device::cuda};
#else
  return {Device::cpu};
#endif
}

std::unique_ptr<Backend> make_backend(Model& model) {
  if (model.device() == Device::cpu)
    return std::make_unique<Forward>(model.weights(), model.kv_layout().type, model.kernels(), model.pool(), model.allocator());
#ifdef TINYZH_CUDA
  return std::make_unique<cuda::Forward>(model.weights(), model.kv_layout().type);
#else
  fail(Code::backend, "device is cuda: this build has no CUDA in it; take device cpu or auto");
#endif
}

}  // namespace tinyzh
