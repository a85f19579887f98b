#include "cuda/launch.h"

#include "cuda/kernels/attention.h"
#include "cuda/kernels/fragments.h"
#include "cuda/kernels/products.h"
#include "cuda/kernels/rows.h"
#include "cuda/kernels/sampling.h"

namespace tinyzh::cuda {
namespace {

unsigned blocks_for(size_t items, size_t each) { return static_cast<unsigned>((items + each - 1) / each); }

}  // namespace

void embed_rows(Stream stream, float* x, const void* embedding, Precision precision, Rows rows, const Slot* slots, unsigned dim) {
  TINYZH_LAUNCH(embed_rows_kernel, Dim3{rows.count}, stream)(x, embedding, precision, rows, slots, dim);
}

void residual_norm(Stream stream, const Activations& out, float* x, const float* y, const float* weight, const int32_t* from,
                   float eps, unsigned rows) {
  if (is_ordered(out.precision))
    TINYZH_LAUNCH(residual_norm_kernel<true>, Dim3{rows}, stream)(out, x, y, weight, from, eps);
  else
    TINYZH_LAUNCH(residual_norm_kernel<false>, Dim3{rows}, stream)(out, x, y, weight, from, eps);
}

void swiglu(Stream stream, const Activations& out, const float* gate, const float* up, unsigned rows) {
  TINYZH_LAUNCH(swiglu_kernel, Dim3{rows}, stream)(out, gate, up);
}

void matmul_f32(Stream stream, const Places& places, const float* w, const Activations& x, unsigned batch) {
  const Dim3 grid{places.panels, blocks_for(batch, kColumns)};
  TINYZH_LAUNCH(matmul_f32_kernel, grid, stream)(places, w, x.f32, x.cols, batch);
}

void matmul_q8(Stream stream, const Places& places, const Q8Part* parts, unsigned part_count, const Activations& x,
               unsigned batch) {
  const Dim3 grid{blocks_for(places.panels, kPanelsOfBlock), blocks_for(batch, kColumns)};
  TINYZH_LAUNCH(matmul_q8_kernel, grid, stream)(places, parts, part_count, x, batch);
}

void matmul_q4(Stream stream, const Places& places, const Q4Group* w, const Activations& x, unsigned batch) {
  const Dim3 grid{blocks_for(places.panels, kPanelsOfBlock), blocks_for(batch, kColumns)};
  TINYZH_LAUNCH(matmul_q4_kernel, grid, stream)(places, w, x, batch);
}

namespace {

template <class Half>
void matmul_half_of(Stream stream, const Places& places, const uint16_t* w, const Activations& x, unsigned batch) {
  if (batch <= 8)
    TINYZH_LAUNCH((matmul_half_kernel<Half, 1>), Dim3{places.panels}, stream)(places, w, x, batch);
  else if (batch <= 32)
    TINYZH_LAUNCH((matmul_half_kernel<Half, 4>), Dim3{places.panels}, stream)(places, w, x, batch);
  else
    TINYZH_LAUNCH((matmul_half_kernel<Half, 8>), (Dim3{blocks_for(places.panels, 2), blocks_for(batch, 64)}), stream)
    (places, w, x, batch);
}

template <class Half>
void matmul_gated_of(Stream stream, const Activations& out, const uint16_t* w, const Activations& x, unsigned batch) {
  const unsigned panels = out.stride / kPanel;
  if (batch <= 8)
    TINYZH_LAUNCH((matmul_gated_kernel<Half, 1>), Dim3{panels}, stream)(out, w, x, batch);
  else if (batch <= 32)
    TINYZH_LAUNCH((matmul_gated_kernel<Half, 4>), Dim3{panels}, stream)(out, w, x, batch);
  else
    TINYZH_LAUNCH((matmul_gated_kernel<Half, 8>), (Dim3{panels, blocks_for(batch, 64)}), stream)(out, w, x, batch);
}

}  // namespace

void matmul_half(Stream stream, const Places& places, const uint16_t* w, const Activations& x, unsigned batch) {
  x.precision == Precision::float16 ? matmul_half_of<Float16>(stream, places, w, x, batch)
                                    : matmul_half_of<Bfloat16>(stream, places, w, x, batch);
}

void matmul_gated(Stream stream, const Activations& out, const uint16_t* w, const Activations& x, unsigned batch) {
  x.precision == Precision::float16 ? matmul_gated_of<Float16>(stream, out, w, x, batch)
                                    : matmul_gated_of<Bfloat16>(stream, out, w, x, batch);
}

namespace {

template <class T>
void rope_store_of(Stream stream, float* q, float* k, const float* v, Rows rows, const float* cos, const float* sin,
                   const CacheLayout& layout) {
  TINYZH_LAUNCH(rope_store_kernel<T>, Dim3{rows.count}, stream)(q, k, v, rows, cos, sin, layout);
}

template <class T>
void attend_of(Stream stream, const Activations& out, const float* q, Rows rows, const AttentionScratch& scratch,
               const CacheLayout& layout) {
  const Dim3 grid{rows.count, layout.heads};
  if (needs_scores(out.precision, layout))
    TINYZH_LAUNCH(attend_kernel<T>, grid, stream)(out, q, rows, scratch, layout);
  else
    TINYZH_LAUNCH(attend_freely_kernel<T>, grid, stream)(out, q, rows, layout);
}

}  // namespace

void rope_store(Stream stream, float* q, float* k, const float* v, Rows rows, const float* cos, const float* sin,
                const CacheLayout& layout) {
  switch (layout.type) {
    case KvType::float32: return rope_store_of<float>(stream, q, k, v, rows, cos, sin, layout);
    case KvType::float16: return rope_store_of<uint16_t>(stream, q, k, v, rows, cos, sin, layout);
    case KvType::int8: return rope_store_of<int8_t>(stream, q, k, v, rows, cos, sin, layout);
  }
}

bool needs_scores(Precision precision, const CacheLayout& layout) {
  const unsigned bytes = layout.type == KvType::float32 ? 4 : layout.type == KvType::float16 ? 2 : 1;
  return is_ordered(precision) || bytes * layout.value_row > 256;
}

void attend(Stream stream, const Activations& out, const float* q, Rows rows, const AttentionScratch& scratch,
            const CacheLayout& layout) {
  switch (layout.type) {
    case KvType::float32: return attend_of<float>(stream, out, q, rows, scratch, layout);
    case KvType::float16: return attend_of<uint16_t>(stream, out, q, rows, scratch, layout);
    case KvType::int8: return attend_of<int8_t>(stream, out, q, rows, scratch, layout);
  }
}

size_t draw_scratch(unsigned vocab) {
  if (vocab <= kFewKeys) return 0;
  size_t whole = 1;
  while (whole < vocab) whole *= 2;
  return whole;
}

void draw(Stream stream, Slot* slots, const int32_t* which, float* logits, Drawn* drawn, uint64_t* scratch, unsigned vocab,
          unsigned rows) {
  TINYZH_LAUNCH(draw_kernel, Dim3{rows}, stream)(slots, which, logits, drawn, scratch, draw_scratch(vocab), vocab);
}

}  // namespace tinyzh::cuda
