#pragma once

#include <cstddef>
#include <string>

namespace tinyzh {

// Bytes this process can still take without pushing others out: of the system, and of its cgroup's limit.  A
// guess of 1 GiB where the system does not tell.  `root` is where /proc and /sys are found.
size_t available_memory(const std::string& root = "");

}  // namespace tinyzh
