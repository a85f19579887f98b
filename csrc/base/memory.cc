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

// The number after `name` in a file of such lines; kUnknown if it is not there.
size_t number_after(const std::string& name, const std::string& path) {
  std::ifstream file(path);
  std::string word, rest;
  size_t n = 0;
  while (file >> word >> n && std::getline(file, rest))
    if (word == name) return n;
  return kUnknown;
}

size_t of_the_system(const std::string& root) {
  const size_t kibibytes = number_after("MemAvailable:", root + "/proc/meminfo");
  return kibibytes == kUnknown ? kUnknown : kibibytes * 1024;
}

// What files have left in memory counts as used there, but goes when it is needed.
size_t of_the_cgroup(const std::string& root) {
  struct Names {
    const char *limit, *usage, *stat, *files;
  };
  for (const Names& names : {Names{"memory.max", "memory.current", "memory.stat", "inactive_file"},
                             Names{"memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"}}) {
    const std::string folder = root + "/sys/fs/cgroup/";
    const size_t most = number_in(folder + names.limit), used = number_in(folder + names.usage);
    if (most == kUnknown || used == kUnknown) continue;
    const size_t files = number_after(names.files, folder + names.stat);
    const size_t needed = files == kUnknown ? used : used - std::min(used, files);
    return most - std::min(most, needed);
  }
  return kUnknown;
}

}  // namespace

size_t available_memory(const std::string& root) {
  const size_t bytes = std::min(of_the_system(root), of_the_cgroup(root));
  return bytes == kUnknown ? size_t{1} << 30 : bytes;
}

}  // namespace tinyzh
