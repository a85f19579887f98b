// Which process this is.  A fork makes another one, in which the threads of the first are missing.
#pragma once

#include <cstdint>

namespace tinyzh {

int64_t process_id();

}  // namespace tinyzh
