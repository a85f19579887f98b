// What this processor can do, asked once per call; no state.
#pragma once

namespace tinyzh {

bool cpu_has_avx2_fma_f16c();  // and the operating system saves the wide registers

}  // namespace tinyzh
