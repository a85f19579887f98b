// The backend that a model asks for, if it is built in and there.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/backend.h"
#include "model/model.h"

namespace tinyzh {

// Throws Error(Code::backend): not built in, no such device here, or nothing for this model's types.  ahead: passes that
// may be begun while one is under way, where the device can.
std::unique_ptr<Backend> make_backend(Model& model, size_t ahead = 0);

std::vector<Device> built_devices();
std::string cuda_build();  // what device cuda was built with; empty: it is not built in

// The device of this name.  Throws Error(Code::backend): unknown, or not built in.
Device device_of(std::string_view name);

}  // namespace tinyzh
