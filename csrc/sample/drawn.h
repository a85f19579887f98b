// A token that a device drew by itself.
#pragma once

#include <cstdint>

namespace tinyzh {

struct Drawn {
  int32_t token;  // below 0: none.  ~token is the first whose logit is no finite number; or vocab_size: all are banned
  float value;    // that logit
};

}  // namespace tinyzh
