#include "base/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace tinyzh {
namespace {

constexpr size_t kUnknown = std::numeric_limits<size_t>::max();

// The number in a file of one number; kUnknown for "max" or no such file.
size_t number_in(const std::string& path) {
  std::ifstream file(path);
  size_t n = 0;
  return file >> n ? n : kUnknown;
}

size_t of_the_system() {
  std::ifstream file("/proc/meminfo");
  std::string name, unit;
  size_t kibibytes = 0;
  while (file >> name >> kibibytes && std::getline(file, unit))
    if (name == "MemAvailable:") return kibibytes * 1024;
  return kUnknown;
}

size_t of_the_cgroup() {
  for (const auto& [limit, usage] : {std::pair<const char*, const char*>
           {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
           {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}}) {
    const size_t most = number_in(limit), used = number_in(usage);
    if (most != kUnknown && used != kUnknown) return most - std::min(most, used);
  }
  return kUnknown;
}

}  // namespace

size_t available_memory() {
  const size_t bytes = std::min(of_the_system(), of_the_cgroup());
  return bytes == kUnknown ? size_t{1} << 30 : bytes;
}

}  // namespace tinyzh
