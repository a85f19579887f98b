// Memory of the device, and the way to it and back.  memory.cu is compiled as launch.cu is.
#pragma once

#include <cstddef>
#include <string>

#include "cuda/launch.h"

namespace tinyzh::cuda {

// What hinders: no driver, no GPU; empty when there is a device to compute on.
std::string problem();

// Of the device: only kernels and the functions below may touch it.
void* allocate(size_t bytes);  // null: there is no more
void release(void* memory);

// Each begins after what was put into the stream before.  upload and download are over when they return.
void upload(Stream stream, void* to, const void* from, size_t bytes);
void download(Stream stream, void* to, const void* from, size_t bytes);
void copy(Stream stream, void* to, const void* from, size_t bytes);

}  // namespace tinyzh::cuda
