// The launches, their kernels and the device's memory, compiled for the emulated GPU.
#include "cuda/launch.cu"
#include "cuda/memory.cu"
