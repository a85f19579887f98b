#include <doctest/doctest.h>

#include <filesystem>
#include <span>
#include <string>

#include "base/memory.h"
#include "io/temporary_directory.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

struct Machine : TemporaryDirectory {
  void put(const std::string& name, const std::string& text) const {
    const std::filesystem::path place = *this / name;
    std::filesystem::create_directories(place.parent_path());
    write_file(place.string(), std::as_bytes(std::span(text)));
  }
};

}  // namespace

TEST_CASE("memory: what the system has, or what the cgroup leaves of it; what files keep there is free") {
  const Machine machine;
  const std::string root = machine / "";
  CHECK(available_memory(root) == size_t{1} << 30);  // it does not tell
  machine.put("proc/meminfo", "MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:  5000 kB\nBuffers:  7 kB\n");
  CHECK(available_memory(root) == 5000 * 1024);
  machine.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000000");
  machine.put("sys/fs/cgroup/memory/memory.usage_in_bytes", "900000");
  CHECK(available_memory(root) == 100000);
  machine.put("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 300000\n");
  CHECK(available_memory(root) == 400000);
  machine.put("sys/fs/cgroup/memory.current", "2000000");
  machine.put("sys/fs/cgroup/memory.max", "max");  // then the older one counts
  CHECK(available_memory(root) == 400000);
  machine.put("sys/fs/cgroup/memory.max", "3000000");
  machine.put("sys/fs/cgroup/memory.stat", "anon 5\ninactive_file 500000\n");
  CHECK(available_memory(root) == 1500000);
  machine.put("sys/fs/cgroup/memory.current", "4000000");
  CHECK(available_memory(root) == 0);
  CHECK(available_memory() > 0);
}
