// Which table of kernels runs.
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

namespace tinyzh {
namespace {

constexpr const Kernels* kCompiled[] = {
#if defined(__x86_64__)
    &kAvx2Kernels,
#endif
    &kScalarKernels,
};

bool cpu_runs(const Kernels& kernels) {
#if defined(__x86_64__)
  if (&kernels == &kAvx2Kernels) return cpu_has_avx2_fma_f16c();
#endif
  return &kernels == &kScalarKernels;
}

std::string names(std::span<const Kernels* const> tables) {
  std::string list;
  for (const Kernels* table : tables) list += (list.empty() ? "" : ", ") + std::string(table->name);
  return list;
}

}  // namespace

std::span<const Kernels* const> compiled_kernels() { return kCompiled; }

std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> tables;
  for (const Kernels* table : kCompiled)
    if (cpu_runs(*table)) tables.push_back(table);
  return tables;
}

const Kernels& choose_kernels(std::string_view name) {
  const std::vector<const Kernels*> tables = runnable_kernels();
  if (name.empty()) {
    if (const char* forced = std::getenv("TINYZH_ISA")) name = forced;
  }
  if (name.empty() || name == "auto") {
    for (const Kernels* table : tables)
      if (agrees_with_scalar(*table)) return *table;
    return kScalarKernels;
  }
  for (const Kernels* table : tables)
    if (name == table->name) return *table;
  for (const Kernels* table : kCompiled)
    if (name == table->name)
      fail(Code::backend, "this processor cannot run the instruction set '", name, "' (TINYZH_ISA); it runs: ",
           names(tables));
  fail(Code::backend, "unknown instruction set '", name, "' (TINYZH_ISA); this build has: ", names(kCompiled));
}

bool agrees_with_scalar(const Kernels& candidate) {
  if (&candidate == &kScalarKernels) return true;
  // Numbers without pattern, small enough for exact comparison to be cheap, long enough for tails.
  constexpr size_t kRows = 9, kCols = 45, kBatch = 4;
  float w[kRows * kCols], x[kBatch * kCols], weight[kCols];
  alignas(64) int8_t q[64 * 8] = {};
  uint32_t state = 12345;
  auto next = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(static_cast<int32_t>(state)) * 0x1p-30f;
  };
  for (float& a : w) a = next();
  for (float& a : x) a = next() * 3;
  for (float& a : weight) a = next();
  for (int8_t& a : q) a = static_cast<int8_t>(static_cast<int>(next() * 63));

  auto run = [&](const Kernels& k, float (&out)[4 * 64 + kRows * kBatch]) {
    float* o = out;
    k.matmul_f32(o, kRows, w, x, kCols, kRows, kCols, kBatch);
    o += kRows * kBatch;
    k.rmsnorm(o, x, weight, kCols, 1e-5f);
    k.swiglu(o, x + kCols, kCols);
    o += 64;
    int8_t xq[64] = {};
    const float scale = k.quantise_row(xq, x, kCols);
    const Q8Segment segments[2] = {{0, 7}, {6, 12}};
    const float scales[16] = {.1f, .2f, .3f, .4f, .5f, .6f, .7f, .8f, .9f, 1.f, .1f, .2f, .3f, .4f, .5f, .6f};
    k.panel_q8(o, {q, scales, segments, 2}, xq, &scale, 64, 1);
    o += 64;
    for (size_t i = 0; i < kCols; ++i) o[i] = x[i];
    k.exp_shifted(o, kCols, 1.5f);
    o += 64;
    const float* blocks[1] = {w};
    float scores[kBlockPositions];
    k.attention(o, x, {blocks, 0, 128, 8, 11}, scores);
    k.rope(o, weight, weight + 8, 8, 1);
  };
  float expected[4 * 64 + kRows * kBatch] = {}, found[4 * 64 + kRows * kBatch] = {};
  run(kScalarKernels, expected);
  run(candidate, found);
  return std::memcmp(expected, found, sizeof expected) == 0;
}

}  // namespace tinyzh
