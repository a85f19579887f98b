// Matrix products of 16 bits on tensor cores, with fp32 sums.
//
// Weights lie in panels of sixteen rows, cut into steps of sixteen columns, each of which is a fragment (device.h): 32
// lanes of eight numbers side by side, so that a lane has its part in one load.  Activations lie in tiles of eight rows,
// cut into the same steps: 32 lanes of four numbers.  Rows and columns that fill up are zeros.
//
// The four warps of a block take the steps in turn, and their sums are added as (0+1)+(2+3), whatever the batch: a row
// has the same bits with any others beside it.
#pragma once

#include "cuda/kernels/activations.h"
#include "cuda/kernels/products.h"

namespace tinyzh::cuda {

// kTiles of eight rows of activations, and kPanels panels, in one block.  Partial sums lie in shared memory column by
// column, apart as it suits the banks.
template <unsigned kTiles, unsigned kPanels>
struct Tiling {
  static constexpr unsigned kApart = 20, kTileFloats = 8 * kApart;
  static constexpr unsigned kFloats = kWarps * kPanels * kTiles * kTileFloats;
  static constexpr unsigned kAhead = kTiles * kPanels == 1 ? 8 : kTiles * kPanels <= 4 ? 4 : 2;  // steps whose loads are under way

  static TINYZH_INLINE unsigned place(unsigned warp, unsigned panel, unsigned tile) {
    return ((warp * kPanels + panel) * kTiles + tile) * kTileFloats;
  }
};

// Sums of the block's panels and tiles, each warp's at its place.
template <class Half, unsigned kTiles, unsigned kPanels, class Partial>
TINYZH_DEVICE void add_products(Partial& partial, const uint16_t* w, unsigned panels, const Activations& x, unsigned tiles) {
  using T = Tiling<kTiles, kPanels>;
  const unsigned warp = warp_of_thread(), lane = lane_of_thread(), steps = x.stride / 16;
  const uint16_t *weights[kPanels], *columns[kTiles];
  for (unsigned p = 0; p < kPanels; ++p) {  // what is beyond the last one is computed like it, and nobody looks
    const unsigned panel = blockIdx.x * kPanels + p;
    weights[p] = w + (static_cast<size_t>(panel < panels ? panel : panels - 1) * steps * kWarp + lane) * 8;
  }
  for (unsigned c = 0; c < kTiles; ++c) {
    const unsigned tile = blockIdx.y * kTiles + c;
    columns[c] = x.half + (static_cast<size_t>(tile < tiles ? tile : tiles - 1) * steps * kWarp + lane) * 4;
  }
  float acc[kPanels][kTiles][4] = {};
  for (unsigned first = warp; first < steps; first += kWarps * T::kAhead) {
    Words4 a[T::kAhead][kPanels];
    Words2 b[T::kAhead][kTiles];
    TINYZH_UNROLL()
    for (unsigned i = 0; i < T::kAhead; ++i) {
      const unsigned step = first + i * kWarps;
      if (step >= steps) continue;
      TINYZH_UNROLL()
      for (unsigned p = 0; p < kPanels; ++p) a[i][p] = load_as<Words4>(weights[p] + static_cast<size_t>(step) * kWarp * 8);
      TINYZH_UNROLL()
      for (unsigned c = 0; c < kTiles; ++c) b[i][c] = load_as<Words2>(columns[c] + static_cast<size_t>(step) * kWarp * 4);
    }
    TINYZH_UNROLL()
    for (unsigned i = 0; i < T::kAhead; ++i) {
      if (first + i * kWarps >= steps) continue;
      TINYZH_UNROLL()
      for (unsigned p = 0; p < kPanels; ++p)
        TINYZH_UNROLL()
        for (unsigned c = 0; c < kTiles; ++c) multiply_add(Half(), acc[p][c], a[i][p].word, b[i][c].word);
    }
  }
  const unsigned group = lane / 4, pair = lane % 4 * 2;
  TINYZH_UNROLL()
  for (unsigned p = 0; p < kPanels; ++p)
    TINYZH_UNROLL()
    for (unsigned c = 0; c < kTiles; ++c)
      TINYZH_UNROLL()
      for (unsigned i = 0; i < 4; ++i)
        partial[T::place(warp, p, c) + (pair + i % 2) * T::kApart + group + i / 2 * 8] = acc[p][c][i];
}

// The sum that element `index` of a panel has, tile by tile, column by column.
template <unsigned kTiles, unsigned kPanels, class Partial>
TINYZH_DEVICE float sum_of(Partial& partial, unsigned panel, unsigned index) {
  using T = Tiling<kTiles, kPanels>;
  const unsigned tile = index / (8 * kPanel), in_tile = index % (8 * kPanel) / kPanel * T::kApart + index % kPanel;
  const auto of = [&](unsigned warp) -> float { return partial[T::place(warp, panel, tile) + in_tile]; };
  return (of(0) + of(1)) + (of(2) + of(3));
}

// out[b][r] = dot(w[r], x[b]).
template <class Half, unsigned kTiles>
TINYZH_KERNEL matmul_half_kernel(Places places, const uint16_t* w, Activations x, unsigned batch) {
  constexpr unsigned kPanels = kTiles == 8 ? 2 : 1;
  TINYZH_SHARED(float, partial, (Tiling<kTiles, kPanels>::kFloats));
  add_products<Half, kTiles, kPanels>(partial, w, places.panels, x, (batch + 7) / 8);
  __syncthreads();
  for (unsigned p = 0; p < kPanels; ++p) {
    const unsigned panel = blockIdx.x * kPanels + p;
    if (panel >= places.panels) return;
    const Places::Place place = place_of(places, panel);
    for (unsigned i = threadIdx.x; i < kTiles * 8 * kPanel; i += kThreads) {
      const unsigned row = (panel - place.first) * kPanel + i % kPanel, column = blockIdx.y * kTiles * 8 + i / kPanel;
      if (row < place.rows && column < batch)
        place.out[static_cast<size_t>(column) * place.rows + row] = sum_of<kTiles, kPanels>(partial, p, i);
    }
  }
}

// out[b][r] = gated(dot(gate[r], x[b]), dot(up[r], x[b])), where panels of gate and of up alternate.
template <class Half, unsigned kTiles>
TINYZH_KERNEL matmul_gated_kernel(Activations out, const uint16_t* w, Activations x, unsigned batch) {
  TINYZH_SHARED(float, partial, (Tiling<kTiles, 2>::kFloats));
  add_products<Half, kTiles, 2>(partial, w, 2 * gridDim.x, x, (batch + 7) / 8);
  __syncthreads();
  for (unsigned i = threadIdx.x; i < kTiles * 8 * kPanel; i += kThreads) {
    const unsigned row = blockIdx.x * kPanel + i % kPanel, column = blockIdx.y * kTiles * 8 + i / kPanel;
    if (column < batch)  // rows that fill the last panel up give zeros, as the next product needs them
      write_number(out, column, row, gated(sum_of<kTiles, 2>(partial, 0, i), sum_of<kTiles, 2>(partial, 1, i)));
  }
}

}  // namespace tinyzh::cuda
