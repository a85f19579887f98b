// Which summation order should every kernel follow?  Two candidates, timed on decode (1 row of
// activations) and prefill (255 rows), fp32 and int8, one thread, AVX2.  The decision and the
// figures are in docs/adr/0001-summation-order.md.
//
//   g++ -O3 -mavx2 -mfma -ffp-contract=off bench/prototypes/summation_order.cc -o order && ./order
//
//   K  "k in lanes":   lane j of 8 adds the products of k = j, j+8, j+16, ...; a fixed tree adds the lanes.
//   R  "rows in lanes": 8 output rows side by side in a vector, each adding its products k = 0, 1, 2, ...
#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

namespace {

constexpr int kRows = 2304, kCols = 768, kMatrices = 12, kBatch = 255, kGroup = 64;

float* floats(size_t n) {
  auto* p = static_cast<float*>(std::aligned_alloc(64, (n * 4 + 63) / 64 * 64));
  for (size_t i = 0; i < n; ++i) p[i] = static_cast<float>(static_cast<int>(i * 2654435761u >> 24) - 128) / 128;
  return p;
}
int8_t* bytes(size_t n) {
  auto* p = static_cast<int8_t*>(std::aligned_alloc(64, (n + 63) / 64 * 64));
  for (size_t i = 0; i < n; ++i) p[i] = static_cast<int8_t>(static_cast<int>(i * 2654435761u >> 24) % 127);
  return p;
}

double median_seconds(int repeats, const std::function<void()>& run) {
  std::vector<double> t;
  for (int i = 0; i < repeats; ++i) {
    auto start = std::chrono::steady_clock::now();
    run();
    t.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(t.begin(), t.begin() + t.size() / 2, t.end());
  return t[t.size() / 2];
}

// ---- K, fp32 ---------------------------------------------------------------------------------

float tree(__m256 v) {
  v = _mm256_hadd_ps(v, v);
  v = _mm256_hadd_ps(v, v);
  return _mm_cvtss_f32(_mm_add_ss(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
}

template <int R, int C>
void k_tile(float* out, size_t stride, const float* w, const float* x) {  // out (C, stride), w (R, kCols), x (C, kCols)
  __m256 acc[R][C];
  for (auto& a : acc)
    for (auto& v : a) v = _mm256_setzero_ps();
  for (int k = 0; k < kCols; k += 8) {
    __m256 xv[C];
    for (int c = 0; c < C; ++c) xv[c] = _mm256_loadu_ps(x + c * kCols + k);
    for (int r = 0; r < R; ++r) {
      const __m256 wv = _mm256_loadu_ps(w + r * kCols + k);
      for (int c = 0; c < C; ++c) acc[r][c] = _mm256_fmadd_ps(wv, xv[c], acc[r][c]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) out[c * stride + r] = tree(acc[r][c]);
}

void k_decode_f32(float* out, const float* w, const float* x) {
  for (int r = 0; r < kRows; r += 8) k_tile<8, 1>(out + r, kRows, w + size_t(r) * kCols, x);
}

void k_prefill_f32(float* out, const float* w, const float* x) {
  for (int r = 0; r < kRows; r += 4)
    for (int c = 0; c < kBatch; c += 3) k_tile<4, 3>(out + c * kRows + r, kRows, w + size_t(r) * kCols, x + c * kCols);
}

// ---- R, fp32 (weights stay row-major in the file, so they are transposed on the way) ----------

void transpose8(__m256* r) {
  __m256 t[8], s[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {
      s[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
      s[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xEE);
    }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
  }
}

void r_decode_f32(float* out, const float* w, const float* x) {
  for (int r = 0; r < kRows; r += 16) {
    __m256 acc[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int k = 0; k < kCols; k += 8)
      for (int h = 0; h < 2; ++h) {
        __m256 t[8];
        for (int i = 0; i < 8; ++i) t[i] = _mm256_loadu_ps(w + size_t(r + 8 * h + i) * kCols + k);
        transpose8(t);
        for (int i = 0; i < 8; ++i) acc[h] = _mm256_fmadd_ps(t[i], _mm256_broadcast_ss(x + k + i), acc[h]);
      }
    _mm256_storeu_ps(out + r, acc[0]);
    _mm256_storeu_ps(out + r + 8, acc[1]);
  }
}

void r_prefill_f32(float* out, const float* w, const float* x, float* panel) {  // panel (kCols, 16)
  for (int r = 0; r < kRows; r += 16) {
    for (int k = 0; k < kCols; k += 8)
      for (int h = 0; h < 2; ++h) {
        __m256 t[8];
        for (int i = 0; i < 8; ++i) t[i] = _mm256_loadu_ps(w + size_t(r + 8 * h + i) * kCols + k);
        transpose8(t);
        for (int i = 0; i < 8; ++i) _mm256_store_ps(panel + (k + i) * 16 + 8 * h, t[i]);
      }
    for (int c = 0; c + 5 <= kBatch; c += 5) {  // 255 = 51 * 5
      __m256 acc[5][2];
      for (auto& a : acc) a[0] = a[1] = _mm256_setzero_ps();
      for (int k = 0; k < kCols; ++k) {
        const __m256 w0 = _mm256_load_ps(panel + k * 16), w1 = _mm256_load_ps(panel + k * 16 + 8);
        for (int j = 0; j < 5; ++j) {
          const __m256 b = _mm256_broadcast_ss(x + (c + j) * kCols + k);
          acc[j][0] = _mm256_fmadd_ps(w0, b, acc[j][0]);
          acc[j][1] = _mm256_fmadd_ps(w1, b, acc[j][1]);
        }
      }
      for (int j = 0; j < 5; ++j) {
        _mm256_storeu_ps(out + (c + j) * kRows + r, acc[j][0]);
        _mm256_storeu_ps(out + (c + j) * kRows + r + 8, acc[j][1]);
      }
    }
  }
}

// ---- int8: integer sums are exact, so only the order in which the groups are added is at stake ----
// K adds group sums lane by lane (then the tree); R has the whole group sum of a row in one lane.

template <int R, int C>
void k_tile_q8(float* out, size_t stride, const int8_t* w, const float* ws, const int8_t* x, int group) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256 acc[R][C];
  for (auto& a : acc)
    for (auto& v : a) v = _mm256_setzero_ps();
  for (int g = 0; g < kCols / group; ++g) {
    __m256i sum[R][C];
    for (auto& a : sum)
      for (auto& v : a) v = _mm256_setzero_si256();
    for (int k = g * group; k < (g + 1) * group; k += 32)
      for (int r = 0; r < R; ++r) {
        const __m256i wv = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + r * kCols + k));
        const __m256i wa = _mm256_abs_epi8(wv);
        for (int c = 0; c < C; ++c) {
          const __m256i xv = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + c * kCols + k));
          sum[r][c] = _mm256_add_epi32(
              sum[r][c], _mm256_madd_epi16(_mm256_maddubs_epi16(wa, _mm256_sign_epi8(xv, wv)), ones));
        }
      }
    for (int r = 0; r < R; ++r) {
      const __m256 s = _mm256_broadcast_ss(ws + r * (kCols / group) + g);
      for (int c = 0; c < C; ++c) acc[r][c] = _mm256_fmadd_ps(s, _mm256_cvtepi32_ps(sum[r][c]), acc[r][c]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) out[c * stride + r] = tree(acc[r][c]);
}

void k_q8(float* out, const int8_t* w, const float* ws, const int8_t* x, int batch, int group) {
  const int groups = kCols / group;
  for (int r = 0; r < kRows; r += 4) {
    const int8_t* wr = w + size_t(r) * kCols;
    int c = 0;
    for (; c + 2 <= batch; c += 2) k_tile_q8<4, 2>(out + c * kRows + r, kRows, wr, ws + r * groups, x + c * kCols, group);
    for (; c < batch; ++c) k_tile_q8<4, 1>(out + c * kRows + r, kRows, wr, ws + r * groups, x + c * kCols, group);
  }
}

// R: panels of 8 rows x 4 k: (kRows/8, kCols/4, 8, 4); scales (kRows/8, groups, 8).
template <int P, int C>
void r_tile_q8(float* out, size_t stride, const int8_t* w, const float* ws, const int8_t* x, int group) {
  const __m256i ones = _mm256_set1_epi16(1);
  const int groups = kCols / group;
  __m256 acc[P][C];
  for (auto& a : acc)
    for (auto& v : a) v = _mm256_setzero_ps();
  for (int g = 0; g < groups; ++g) {
    __m256i sum[P][C];
    for (auto& a : sum)
      for (auto& v : a) v = _mm256_setzero_si256();
    for (int k = g * group; k < (g + 1) * group; k += 4)
      for (int p = 0; p < P; ++p) {
        const __m256i wv = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + (size_t(p) * kCols + k) * 8));
        const __m256i wa = _mm256_abs_epi8(wv);
        for (int c = 0; c < C; ++c) {
          int32_t four;
          std::memcpy(&four, x + c * kCols + k, 4);
          const __m256i xv = _mm256_set1_epi32(four);
          sum[p][c] = _mm256_add_epi32(
              sum[p][c], _mm256_madd_epi16(_mm256_maddubs_epi16(wa, _mm256_sign_epi8(xv, wv)), ones));
        }
      }
    for (int p = 0; p < P; ++p)
      for (int c = 0; c < C; ++c)
        acc[p][c] = _mm256_fmadd_ps(_mm256_loadu_ps(ws + (p * groups + g) * 8), _mm256_cvtepi32_ps(sum[p][c]), acc[p][c]);
  }
  for (int p = 0; p < P; ++p)
    for (int c = 0; c < C; ++c) _mm256_storeu_ps(out + c * stride + 8 * p, acc[p][c]);
}

void r_q8(float* out, const int8_t* w, const float* ws, const int8_t* x, int batch, int group) {
  const int groups = kCols / group;
  if (batch == 1) {
    for (int r = 0; r < kRows; r += 32)
      r_tile_q8<4, 1>(out + r, kRows, w + size_t(r) * kCols, ws + r * groups, x, group);
    return;
  }
  for (int r = 0; r < kRows; r += 16)
    for (int c = 0; c < batch; c += 5)
      r_tile_q8<2, 5>(out + c * kRows + r, kRows, w + size_t(r) * kCols, ws + r * groups, x + c * kCols, group);
}

}  // namespace

int main() {
  const size_t matrix = size_t(kRows) * kCols;
  float* w = floats(matrix * kMatrices);
  int8_t* q = bytes(matrix * kMatrices);
  float* s = floats(matrix / kGroup * kMatrices);
  float* x = floats(size_t(kBatch) * kCols);
  int8_t* xq = bytes(size_t(kBatch) * kCols);
  float* out = floats(size_t(kBatch) * kRows);
  float* panel = floats(kCols * 16);

  auto all = [&](auto one) { return [=] { for (int m = 0; m < kMatrices; ++m) one(m); }; };
  auto report = [&](const char* name, int batch, int width, double t) {
    std::printf("%-34s %8.2f ms %8.1f GB/s of weights %8.1f G multiply-adds/s\n", name, t * 1e3,
                double(matrix) * kMatrices * width / t * 1e-9, double(matrix) * kMatrices * batch / t * 1e-9);
  };
  for (int round = 0; round < 2; ++round) {  // twice, so that drift shows
    report("fp32 decode   K", 1, 4, median_seconds(15, all([=](int m) { k_decode_f32(out, w + matrix * m, x); })));
    report("fp32 decode   R (transposing)", 1, 4, median_seconds(15, all([=](int m) { r_decode_f32(out, w + matrix * m, x); })));
    report("fp32 prefill  K", kBatch, 4, median_seconds(3, all([=](int m) { k_prefill_f32(out, w + matrix * m, x); })));
    report("fp32 prefill  R (packing panels)", kBatch, 4, median_seconds(3, all([=](int m) { r_prefill_f32(out, w + matrix * m, x, panel); })));
    for (int group : {kGroup, kCols})
      for (int batch : {1, kBatch}) {
        char name[64];
        const int repeats = batch == 1 ? 15 : 3;
        std::snprintf(name, sizeof name, "int8 %s K group %d", batch == 1 ? "decode  " : "prefill ", group);
        report(name, batch, 1, median_seconds(repeats, all([=](int m) { k_q8(out, q + matrix * m, s, xq, batch, group); })));
        std::snprintf(name, sizeof name, "int8 %s R group %d", batch == 1 ? "decode  " : "prefill ", group);
        report(name, batch, 1, median_seconds(repeats, all([=](int m) { r_q8(out, q + matrix * m, s, xq, batch, group); })));
      }
  }
}
