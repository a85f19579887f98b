#include "kernels/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tinyzh {

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

}  // namespace tinyzh
