#include "kernels/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace tinyzh {
namespace {

#if defined(__aarch64__) && defined(__linux__)
// By number (the kernel's asm/hwcap.h): older headers lack the names.
bool has_dotprod() { return getauxval(16) & 1ul << 20; }  // AT_HWCAP, HWCAP_ASIMDDP
bool has_i8mm() { return getauxval(26) & 1ul << 13; }     // AT_HWCAP2, HWCAP2_I8MM
#elif defined(__aarch64__) && defined(__APPLE__)
bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dotprod() { return has("hw.optional.arm.FEAT_DotProd"); }
bool has_i8mm() { return has("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dotprod() { return false; }
bool has_i8mm() { return false; }
#endif

}  // namespace

bool cpu_has_avx2_fma_f16c() {
#if defined(__x86_64__)
  // f16c by hand: not every compiler knows its name in __builtin_cpu_supports.
  constexpr unsigned kF16c = 1u << 29;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kF16c)) return false;
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool cpu_has_avx512_vnni() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return cpu_has_avx2_fma_f16c() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

bool cpu_has_arm_dotprod() { return has_dotprod(); }
bool cpu_has_arm_i8mm() { return has_dotprod() && has_i8mm(); }

}  // namespace tinyzh
