// From one checkpoint format to another: reads tensors through io, rounds them here, writes through io.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "io/checkpoint.h"

namespace tinyzh {

// The group size that llama2.c's exporter chooses: 64, halved until it divides dim.
size_t default_group_size(const Config& config);

// True when llama2.c's int8 program reads such a v2 file wrongly: rows that are no multiple of a group.
bool groups_straddle_rows(const Config& config, size_t group_size);

// Writes `from` to `path`, which is replaced only when the whole is there, and returns the group size of
// what it wrote (0: none).  group_size 0 asks for the default.  progress(done, total) is told
// the matrices written.  Throws Error: invalid_argument (group size), file, checkpoint (weights that are
// not numbers cannot be quantised).
size_t convert_checkpoint(const Checkpoint& from, const std::string& path, Format format, size_t group_size,
                          const std::function<void(size_t, size_t)>& progress = {});

}  // namespace tinyzh
