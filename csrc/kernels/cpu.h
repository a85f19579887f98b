// What this processor can do, asked once per call; no state.
#pragma once

namespace tinyzh {

// And the operating system saves the wide registers.
bool cpu_has_avx2_fma_f16c();
bool cpu_has_avx512_vnni();  // F, BW, DQ, VL and VNNI

bool cpu_has_arm_dotprod();
bool cpu_has_arm_i8mm();  // and dotprod

}  // namespace tinyzh
