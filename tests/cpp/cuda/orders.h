// The order in which an emulated GPU runs its threads, for tests that also run on a real one, which has its own.
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef TINYZH_ON_GPU
#include "cuda/emulated_stream.h"
#include "cuda/emulation.h"
#endif

namespace tinyzh::testing {

#ifdef TINYZH_ON_GPU
inline constexpr bool kEmulated = false;
inline void run_in_order(uint64_t) {}
inline size_t launches() { return 0; }
#else
inline constexpr bool kEmulated = true;
// 0: forwards; an odd number: backwards; others: a random one of that number.
inline void run_in_order(uint64_t seed) {
  using cuda::emulation::Order;
  cuda::emulation::set_schedule({seed == 0 ? Order::forward : seed % 2 ? Order::reverse : Order::random, seed});
}
inline size_t launches() { return cuda::emulation::launches(); }
#endif

}  // namespace tinyzh::testing
