// The kernels (kernels/), called from the host: each function puts one launch into a stream.
// launch.cu is compiled by nvcc for a GPU and, included into an ordinary file, for the emulated one.
//
// All pointers are to memory of the device.  B: rows of the pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"
#include "sample/drawn.h"

namespace tinyzh::cuda {

#ifdef __CUDACC__
#define TINYZH_BOTH __host__ __device__  // of what host and device call
#else
#define TINYZH_BOTH
#endif

using Stream = void*;  // a cudaStream_t, or an EmulatedStream; null, for the emulation alone: at once

// What products multiply.  float32, int8 and int4 have the bits of the CPU; the others are of 16 bits, for tensor cores,
// which add in an order of their own.
enum class Precision { float32, int8, int4, float16, bfloat16 };
TINYZH_BOTH inline constexpr bool is_ordered(Precision p) { return p <= Precision::int4; }
TINYZH_BOTH inline constexpr bool is_quantised(Precision p) { return p == Precision::int8 || p == Precision::int4; }

// Rows of activations, in the form that the next product reads; whoever writes them writes that form.
struct Activations {
  Precision precision;
  unsigned cols;
  unsigned stride;  // cols, rounded up to 32 (int8, int4) or 16 (16 bits), zeros behind cols
  float* f32;       // (B, cols); of 16 bits null, unless somebody looks at them
  int8_t* q8;       // int8, int4: (B, stride), with
  float* sums;      //   (B, stride / 32), and
  float* scales;    //   (B)
  uint16_t* half;   // 16 bits: (B / 8, stride / 16, 32, 4), a fragment after the other (kernels/fragments.h)
};

// Where one layer's keys and values lie inside a block of the cache; see model/kv_cache.h.
struct CacheLayout {
  size_t first;                   // of the layer's first head, in bytes
  size_t stride;                  // from one head to the next
  size_t value_offset;            // from a head's keys to its values
  size_t scale_offset;            // and to its scales (int8)
  unsigned head_size, value_row;  // value_row: head_size padded to eight
  unsigned heads, kv_heads;
  KvType type;
};

// The rows of a pass.
struct Rows {
  const int32_t* tokens;            // (B); below 0: what slot ~token drew last
  const int32_t* positions;         // (B)
  std::byte* const* const* tables;  // (B): blocks of the row's sequence
  unsigned count;                   // B
};

// A sequence that draws its tokens here: parameters as in sample/sampler.h, and where it is.
struct Slot {
  uint64_t random;        // state
  uint32_t* marks;        // (vocab): below; null: no penalties, and nothing is banned
  float temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  int32_t top_k;
  int32_t last;           // the token drawn last
  uint32_t drawn;         // tokens so far
  uint32_t banned_until;  // so many are drawn, kBanned tokens cannot be
};
inline constexpr uint32_t kSeen = 1, kBanned = 2, kOnce = 4;  // in prompt or output; and kOnce for each time in the output

// x (B, dim) = embedding (vocab, dim) at the rows' tokens: fp32, or of 16 bits.
void embed_rows(Stream stream, float* x, const void* embedding, Precision precision, Rows rows, const Slot* slots, unsigned dim);
// For each row `from` of `rows` (null: all in order): x += y unless y is null; out = RMSNorm(x) * weight.
// x, y (B, dim), weight (dim), out (rows, dim).
void residual_norm(Stream stream, const Activations& out, float* x, const float* y, const float* weight, const int32_t* from,
                   float eps, unsigned rows);
// out = gate * sigmoid(gate) * up, both (B, H).
void swiglu(Stream stream, const Activations& out, const float* gate, const float* up, unsigned rows);

// ---- products: of up to three matrices with the same input, side by side -----------------------

inline constexpr unsigned kMostMatrices = 3;

// Where the results go.  All matrices are cut into panels of sixteen rows, the last one of each perhaps not full.
struct Places {
  struct Place {
    float* out;      // (B, rows)
    unsigned rows;
    unsigned first;  // panel of all
  } of[kMostMatrices];
  unsigned count, panels;  // matrices; panels of all together
};

// out[b][r] = dot(w[r], x[b]): w (panels, 16, cols); the last panel of all need only have the rows that are there.
void matmul_f32(Stream stream, const Places& places, const float* w, const Activations& x, unsigned batch);

// int8: panels that have the same segments, and which rows they hold.
struct Q8Part {
  Q8Panels panels;         // what it points to is on the device
  const uint32_t* row_of;  // (panels, 16): rows of the matrix; null: in order
  unsigned matrix;         // of the places
  unsigned first;          // panel of all
};
void matmul_q8(Stream stream, const Places& places, const Q8Part* parts, unsigned part_count, const Activations& x,
               unsigned batch);
// w (panels, stride / 32).
void matmul_q4(Stream stream, const Places& places, const Q4Group* w, const Activations& x, unsigned batch);
// w of 16 bits, in fragments: (panels, stride / 16, 32, 8).
void matmul_half(Stream stream, const Places& places, const uint16_t* w, const Activations& x, unsigned batch);
// Of two matrices whose panels alternate, gate and up: out (B, rows) = swiglu of their results.
void matmul_gated(Stream stream, const Activations& out, const uint16_t* w, const Activations& x, unsigned batch);

// ---- attention ---------------------------------------------------------------------------------

// Turns q (B, heads * S) and k (B, kv_heads * S) by the rows' positions, in place, and stores k and v into the cache.
// cos, sin (positions, S / 2).
void rope_store(Stream stream, float* q, float* k, const float* v, Rows rows, const float* cos, const float* sin,
                const CacheLayout& layout);
// out (B, heads * S): each row looks at the positions up to its own.
struct AttentionScratch {
  float* scores;        // (B, heads, positions), with at least as many positions as any row sees; null: see below
  size_t score_stride;  // positions
  uint32_t* arrived;    // (B): zeros, and zeros again afterwards
};
void attend(Stream stream, const Activations& out, const float* q, Rows rows, const AttentionScratch& scratch,
            const CacheLayout& layout);
bool needs_scores(Precision precision, const CacheLayout& layout);

// ---- drawing -----------------------------------------------------------------------------------

// For each row s whose slot which[s] is not negative: that slot draws from logits[s] (vocab), which are overwritten.
// scratch: draw_scratch(vocab) keys for each row.
void draw(Stream stream, Slot* slots, const int32_t* which, float* logits, Drawn* drawn, uint64_t* scratch, unsigned vocab,
          unsigned rows);
size_t draw_scratch(unsigned vocab);

}  // namespace tinyzh::cuda
