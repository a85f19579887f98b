#include "cuda/launch.h"

#include "cuda/kernels.h"

namespace tinyzh::cuda {
namespace {

unsigned blocks_for(size_t items, size_t each) { return static_cast<unsigned>((items + each - 1) / each); }

}  // namespace

void embed_rows(Stream stream, float* x, const float* embedding, Rows rows, unsigned dim) {
  TINYZH_LAUNCH(embed_rows_kernel, Dim3{rows.count}, stream)(x, embedding, rows, dim);
}

void residual_norm(Stream stream, float* out, float* x, const float* y, const float* weight, unsigned dim, float eps,
                   unsigned rows) {
  TINYZH_LAUNCH(residual_norm_kernel, Dim3{blocks_for(rows, kThreads / kWarp)}, stream)(out, x, y, weight, dim, eps, rows);
}

void matmul_f32(Stream stream, float* out, size_t out_stride, const float* w, const float* x, size_t x_stride, unsigned rows,
                unsigned cols, unsigned batch) {
  const Dim3 grid{blocks_for(rows, kRowsOfBlock), blocks_for(batch, kColumns)};
  TINYZH_LAUNCH(matmul_f32_kernel, grid, stream)(out, out_stride, w, x, x_stride, rows, cols, batch);
}

void quantise_rows(Stream stream, int8_t* q, float* sums, float* scales, const float* x, unsigned cols, unsigned stride,
                   unsigned rows) {
  TINYZH_LAUNCH(quantise_rows_kernel, Dim3{blocks_for(rows, kThreads / kWarp)}, stream)(q, sums, scales, x, cols, stride, rows);
}

void matmul_q8(Stream stream, float* out, size_t out_stride, const Q8Panels& w, const uint32_t* row_of, const Q8Rows& x,
               unsigned batch) {
  const Dim3 grid{blocks_for(w.rows, kPanel * kPanelsOfBlock), blocks_for(batch, kColumns)};
  TINYZH_LAUNCH(matmul_q8_kernel, grid, stream)(out, out_stride, w, row_of, x, batch);
}

void matmul_q4(Stream stream, float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, unsigned batch) {
  const Dim3 grid{blocks_for(w.rows, kPanel * kPanelsOfBlock), blocks_for(batch, kColumns)};
  TINYZH_LAUNCH(matmul_q4_kernel, grid, stream)(out, out_stride, w, x, batch);
}

void rope_store(Stream stream, float* q, float* k, const float* v, Rows rows, const float* cos, const float* sin,
                CacheLayout layout) {
  if (layout.type == KvType::float16)
    TINYZH_LAUNCH(rope_store_kernel<uint16_t>, Dim3{rows.count}, stream)(q, k, v, rows, cos, sin, layout);
  else
    TINYZH_LAUNCH(rope_store_kernel<float>, Dim3{rows.count}, stream)(q, k, v, rows, cos, sin, layout);
}

void attend(Stream stream, float* out, const float* q, Rows rows, float* scores, size_t score_stride, CacheLayout layout) {
  const Dim3 grid{rows.count, layout.heads};
  if (layout.type == KvType::float16)
    TINYZH_LAUNCH(attend_kernel<uint16_t>, grid, stream)(out, q, rows, scores, score_stride, layout);
  else
    TINYZH_LAUNCH(attend_kernel<float>, grid, stream)(out, q, rows, scores, score_stride, layout);
}

void swiglu(Stream stream, float* gate, const float* up, size_t n) {
  TINYZH_LAUNCH(swiglu_kernel, Dim3{blocks_for(n, kThreads)}, stream)(gate, up, n);
}

}  // namespace tinyzh::cuda
