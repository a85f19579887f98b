#include "base/process.h"

#include <unistd.h>

namespace tinyzh {

int64_t process_id() { return ::getpid(); }

}  // namespace tinyzh
