// How many cores there are to use, asked of Linux; elsewhere the standard library's answer.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>

#include "base/thread_pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace tinyzh {
namespace {

#if defined(__linux__)
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Two logical processors of one core share its arithmetic: count each core once.
int physical_cores_allowed() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 0;
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed)) {
      const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
      const std::string core = first_line(topology + "core_id");
      cores.insert(core.empty() ? "cpu" + std::to_string(cpu)
                                : first_line(topology + "physical_package_id") + ":" + core);
    }
  return static_cast<int>(cores.size());
}

// quota / period of this process's control group, 0 when there is no limit.
double cgroup_cores() {
  std::string path;
  std::ifstream self("/proc/self/cgroup");
  for (std::string line; std::getline(self, line);)
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  double least = 0;
  auto consider = [&least](double quota, double period) {
    if (quota > 0 && period > 0 && (least == 0 || quota / period < least)) least = quota / period;
  };
  for (std::string group = path;; group = group.substr(0, group.rfind('/'))) {  // version 2: every ancestor
    std::istringstream line(first_line("/sys/fs/cgroup" + group + "/cpu.max"));
    double quota = 0, period = 0;
    if (line >> quota >> period) consider(quota, period);
    if (group.empty() || group == "/") break;
  }
  std::istringstream quota_v1(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"));
  std::istringstream period_v1(first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
  double quota = 0, period = 0;
  if (quota_v1 >> quota && period_v1 >> period) consider(quota, period);
  return least;
}
#endif

}  // namespace

int default_threads() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  if (const int physical = physical_cores_allowed(); physical > 0) cores = physical;
  if (const double quota = cgroup_cores(); quota > 0) cores = static_cast<int>(std::min<double>(cores, quota + 0.999));
#endif
  return std::max(1, cores);
}

}  // namespace tinyzh
