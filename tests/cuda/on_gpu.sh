#!/usr/bin/env bash
# Everything that needs a GPU, within ten minutes: builds for the one that is there, runs the C++ tests that can run on
# it, tests/test_cuda.py and a part of the others with the GPU as the default device, then some of them again under
# compute-sanitizer.
#
#   bash tests/cuda/on_gpu.sh [build folder]
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
build=${1:-$root/build/gpu}
python=${PYTHON:-python3}

missing() { echo "$1: nothing was tested"; exit 1; }
command -v nvidia-smi >/dev/null && nvidia-smi -L | grep -q GPU || missing "there is no GPU (nvidia-smi -L shows none)"
command -v nvcc >/dev/null || missing "nvcc is not installed"
capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader

mkdir -p "$build"
[ -d "$build/venv" ] || "$python" -m venv "$build/venv"
"$build/venv/bin/pip" install -q pybind11 numpy sentencepiece pytest hypothesis pytest-benchmark
cmake -S . -B "$build/cmake" -DTINYZH_CUDA=ON -DTINYZH_CUDA_ARCHITECTURES="$capability" -DTINYZH_BUILD_LIBRARY=OFF \
  -DTINYZH_BUILD_TESTS=ON -DTINYZH_BUILD_PYTHON=ON -DPython_EXECUTABLE="$build/venv/bin/python" \
  -Dpybind11_DIR="$("$build/venv/bin/python" -m pybind11 --cmakedir)" >"$build/log" || { cat "$build/log"; exit 1; }
cmake --build "$build/cmake" -j "$(nproc)" >"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
rm -rf "$build/package" && mkdir -p "$build/package"
cp -r python/tinyzh "$build/package/" && cp "$build"/cmake/_core*.so "$build/package/tinyzh/"
export PYTHONPATH=$build/package
run_pytest() { "$build/venv/bin/python" -m pytest -q -p no:cacheprovider "$@"; }

"$build/venv/bin/python" -m tinyzh doctor
echo "=== the kernels, the forward pass and the engine against the CPU"
"$build/cmake/tinyzh_tests" --test-case="cuda*,gpu*"
run_pytest tests/test_cuda.py
echo "=== the tests of the engine with the GPU as the default device"
for ahead in 0 2; do
  TINYZH_DEVICE=cuda TINYZH_AHEAD=$ahead "$build/cmake/tinyzh_tests" --test-case="engine:*,many:*,request:*,capi:*"
done
TINYZH_DEVICE=cuda run_pytest -m "not slow" tests/test_engine.py tests/test_generation.py tests/test_session.py \
  tests/test_sampling.py tests/test_batch.py
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    echo "=== compute-sanitizer $tool"
    compute-sanitizer --tool $tool --error-exitcode 9 "$build/cmake/tinyzh_tests" --test-case="cuda forward*,cuda sampling: end*,gpu*"
  done
else
  echo "compute-sanitizer is not installed: memory and races were not checked"
fi
echo "all of it passed in $SECONDS s"
