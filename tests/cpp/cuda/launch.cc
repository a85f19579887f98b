// The launches and their kernels, compiled for the emulated GPU.
#include "cuda/launch.cu"
