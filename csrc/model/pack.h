// Weights as a tz file: exactly what the kernels of this model read, so that opening the file again gives
// the same bits without quantising.
#pragma once

#include <functional>
#include <string>

#include "model/weights.h"

namespace tinyzh {

// The target appears when it is whole.  progress(done, total) is told the tensors written.  Throws Error:
// invalid_argument, file.
void write_tz(const std::string& path, const Weights& weights,
              const std::function<void(size_t, size_t)>& progress = {});

}  // namespace tinyzh
