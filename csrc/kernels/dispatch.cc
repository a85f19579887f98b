// Which table of kernels runs.
#include <cstdlib>
#include <cstring>

#include "base/aligned.h"
#include "base/error.h"
#include "base/fp_env.h"
#include "base/half.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"

namespace tinyzh {
namespace {

constexpr const Kernels* kCompiled[] = {
#if defined(__x86_64__)
    &kAvx512Kernels,
    &kAvx2Kernels,
#elif defined(__aarch64__)
    &kI8mmKernels,
    &kDotprodKernels,
    &kNeonKernels,
#endif
    &kScalarKernels,
};

bool cpu_runs(const Kernels& kernels) {
#if defined(__x86_64__)
  if (&kernels == &kAvx512Kernels) return cpu_has_avx512_vnni();
  if (&kernels == &kAvx2Kernels) return cpu_has_avx2_fma_f16c();
#elif defined(__aarch64__)
  if (&kernels == &kI8mmKernels) return cpu_has_arm_i8mm();
  if (&kernels == &kDotprodKernels) return cpu_has_arm_dotprod();
  if (&kernels == &kNeonKernels) return true;
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
  const StandardFloatingPoint standard;
  // Numbers without pattern; sizes that reach every width a kernel may work in, and its tail.
  uint32_t state = 12345;
  auto numbers = [&state](size_t n) {
    std::vector<float> x(n);
    for (float& a : x) {
      state = state * 1664525u + 1013904223u;
      a = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-30f;
    }
    return x;
  };
  constexpr size_t kRows = 11, kCols = 45, kBatch = 15, kStride = 64, kQuads = 13, kPanels = 5;
  constexpr size_t kHeadSize = 88, kPositions = 70, kBlocks = 5;
  const std::vector<float> w = numbers(kRows * kCols), x = numbers(kBatch * kCols), weight = numbers(kCols);
  const std::vector<float> cache = numbers(kBlocks * kHeadSize * 2 * kBlockPositions), many_q = numbers(kAttentionRows * kHeadSize);
  const std::vector<float> scales = numbers(kPanels * 3 * kPanelRows);
  AlignedBuffer<int8_t> values(kPanels * kQuads * 4 * kPanelRows);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<int8_t>(37 * i);
  const Segment segments[] = {{0, 8}, {8, 10}, {9, 12}};
  std::vector<Q4Group> groups(kPanels * 2);
  for (size_t i = 0; i < groups.size() * sizeof(Q4Group); ++i)
    reinterpret_cast<uint8_t*>(groups.data())[i] = static_cast<uint8_t>(i * 37 % 251 & 0x7B);  // no fp16 infinity
  const std::byte* blocks[kBlocks];
  for (size_t b = 0; b < kBlocks; ++b)
    blocks[b] = reinterpret_cast<const std::byte*>(cache.data() + b * kHeadSize * 2 * kBlockPositions);
  std::vector<uint16_t> halves(cache.size());
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = to_half(cache[i]);
  const std::byte* half_blocks[kBlocks];
  for (size_t b = 0; b < kBlocks; ++b)
    half_blocks[b] = reinterpret_cast<const std::byte*>(halves.data() + b * kHeadSize * 2 * kBlockPositions);

  auto run = [&](const Kernels& k) {
    std::vector<float> results;
    auto take = [&results](const std::vector<float>& found) { results.insert(results.end(), found.begin(), found.end()); };
    for (size_t batch : {1, 2, 3, 4, 5, 6}) {
      std::vector<float> out(batch * kRows);
      k.matmul_f32(out.data(), kRows, w.data(), x.data(), kCols, kRows, kCols, batch);
      take(out);
    }
    std::vector<int8_t> xq(kBatch * kStride);
    std::vector<float> x_scales(kBatch), sums(kBatch * kStride / kGroupColumns);
    for (size_t b = 0; b < kBatch; ++b)
      x_scales[b] = k.quantise_row(xq.data() + b * kStride, sums.data() + b * 2, x.data() + b * kCols, kCols);
    take(x_scales);
    take(sums);
    const Q8Rows columns{xq.data(), sums.data(), x_scales.data(), kStride};
    constexpr size_t kResults = kPanels * kPanelRows - 5;
    for (size_t batch : {size_t{1}, size_t{2}, kBatch}) {
      std::vector<float> out(kResults * batch);
      k.matmul_q8(out.data(), kResults, {values.data(), scales.data(), segments, 3, kQuads, kResults}, columns, batch);
      take(out);
      k.matmul_q4(out.data(), kResults, {groups.data(), 2, kResults}, columns, batch);
      take(out);
    }
    std::vector<uint8_t> codes(kGroupColumns + 1);
    uint16_t scale = 0;
    k.quantise_q4(codes.data(), &scale, &codes[kGroupColumns], x.data());
    take({codes.begin(), codes.end()});
    take({static_cast<float>(scale)});
    std::vector<float> row(kCols);
    k.rmsnorm(row.data(), x.data(), weight.data(), kCols, 1e-5f);
    take(row);
    k.swiglu(row.data(), x.data() + kCols, kCols);
    take(row);
    k.add(row.data(), weight.data(), kCols);
    take(row);
    k.exp_shifted(row.data(), kCols, 1.5f);
    take(row);
    std::vector<float> head(kHeadSize), heads(kAttentionRows * kHeadSize), scores(kAttentionRows * kBlocks * kBlockPositions);
    for (KvType type : {KvType::float32, KvType::float16, KvType::int8}) {
      // int8 takes its bytes and scales from the floats: any bytes will do, and scales are floats.
      const std::byte* const* table = type == KvType::float16 ? half_blocks : blocks;
      const size_t size = type == KvType::float32 ? 4 : type == KvType::float16 ? 2 : 1;
      const AttentionHead of{table, 0, kHeadSize * kBlockPositions * size, 0, 64, kHeadSize, kPositions};
      k.attention[static_cast<size_t>(type)](heads.data(), kHeadSize, many_q.data(), kHeadSize, of, kAttentionRows, scores.data());
      take(heads);
    }
    std::vector<uint16_t> narrowed(kCols);
    k.narrow(narrowed.data(), x.data(), kCols);
    take({narrowed.begin(), narrowed.end()});
    k.rope(head.data(), w.data(), w.data() + kHeadSize, 42, 2);  // 42: no whole vectors
    take(head);
    return results;
  };
  const std::vector<float> expected = run(kScalarKernels), found = run(candidate);
  return std::memcmp(expected.data(), found.data(), expected.size() * sizeof(float)) == 0;
}

}  // namespace tinyzh
