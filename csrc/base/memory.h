#pragma once

#include <cstddef>

namespace tinyzh {

// Bytes this process can still take without pushing others out: of the system, and of its cgroup's limit.  A
// guess of 1 GiB where the system does not tell.
size_t available_memory();

}  // namespace tinyzh
