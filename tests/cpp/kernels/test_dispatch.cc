#include <doctest/doctest.h>
#include <stdlib.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/unusual_floating_point.h"
#include "base/environment.h"
#include "io/expect_error.h"
#include "kernels/kernels.h"

using namespace tinyzh;
using namespace tinyzh::testing;

namespace {

// Scalar, with one function replaced.
template <class Change>
Kernels scalar_but(const Change& change) {
  Kernels table = kScalarKernels;
  table.name = "wrong";
  change(table);
  return table;
}
void nudge(float& x) { x = x * 1.0000002f + 1e-30f; }

}  // namespace

TEST_CASE("dispatch: scalar is always there, and last") {
  CHECK(compiled_kernels().back() == &kScalarKernels);
  const auto runnable = runnable_kernels();
  REQUIRE_FALSE(runnable.empty());
  CHECK(runnable.back() == &kScalarKernels);
  for (const Kernels* table : runnable)
    CHECK(std::count(compiled_kernels().begin(), compiled_kernels().end(), table) == 1);
}

// For machines of which one knows it, so that a test of all tables cannot pass by having none.
TEST_CASE("dispatch: the tables that TINYZH_EXPECT_ISAS names run here, best first, and no others") {
  const char* expected = std::getenv("TINYZH_EXPECT_ISAS");
  if (!expected) return;
  std::string names;
  for (const Kernels* table : runnable_kernels()) names += (names.empty() ? "" : " ") + std::string(table->name);
  CHECK(names == expected);
}

TEST_CASE("dispatch: by name, by TINYZH_ISA, or the best") {
  const Environment unset("TINYZH_ISA", nullptr);
  const std::vector<const Kernels*> runnable = runnable_kernels();
  for (const Kernels* table : runnable) CHECK(&choose_kernels(table->name) == table);
  CHECK(&choose_kernels() == runnable.front());
  CHECK(&choose_kernels("auto") == runnable.front());
  {
    const Environment forced("TINYZH_ISA", "scalar");
    CHECK(&choose_kernels() == &kScalarKernels);
    CHECK(&choose_kernels(runnable.front()->name) == runnable.front());  // a name of the caller's own comes first
  }
  for (const char* nothing : {"", "auto"}) {
    const Environment none("TINYZH_ISA", nothing);
    CHECK(&choose_kernels() == runnable.front());
  }
}

TEST_CASE("dispatch: an unknown name is an error that lists the right ones") {
  expect_error(Code::backend, {"'sse9'", "TINYZH_ISA", "scalar"}, [] { choose_kernels("sse9"); });
  expect_error(Code::backend, {"'AVX2'", compiled_kernels().front()->name}, [] { choose_kernels("AVX2"); });
  const Environment forced("TINYZH_ISA", "mmx");
  expect_error(Code::backend, {"'mmx'", "TINYZH_ISA", "scalar"}, [] { choose_kernels(); });
}

TEST_CASE("dispatch: the self-check accepts every table that runs here, under any floating-point settings") {
  for (const Kernels* table : runnable_kernels()) {
    CAPTURE(std::string(table->name));
    CHECK(agrees_with_scalar(*table));
    for (const Unusual& setting : unusual_settings()) {
      const UnusualFloatingPoint unusual(setting);
      CHECK(agrees_with_scalar(*table));
    }
  }
}

TEST_CASE("dispatch: the self-check refuses a table with any one function wrong") {
  const Kernels wrong[] = {
      scalar_but([](Kernels& t) {
        t.matmul_f32 = [](float* out, size_t out_stride, const float* w, const float* x, size_t x_stride, size_t rows,
                          size_t cols, size_t batch) {
          kScalarKernels.matmul_f32(out, out_stride, w, x, x_stride, rows, cols, batch);
          if (batch == 1) nudge(out[rows - 1]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.matmul_f32 = [](float* out, size_t out_stride, const float* w, const float* x, size_t x_stride, size_t rows,
                          size_t cols, size_t batch) {
          kScalarKernels.matmul_f32(out, out_stride, w, x, x_stride, rows, cols, batch);
          if (batch > 3) nudge(out[3 * out_stride]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.matmul_q8 = [](float* out, size_t out_stride, const Q8Panels& w, const Q8Rows& x, size_t batch) {
          kScalarKernels.matmul_q8(out, out_stride, w, x, batch);
          if (batch > 12) nudge(out[12 * out_stride + 5]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.matmul_q8 = [](float* out, size_t out_stride, const Q8Panels& w, const Q8Rows& x, size_t batch) {
          kScalarKernels.matmul_q8(out, out_stride, w, x, batch);
          if (batch == 1) nudge(out[w.rows - 1]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.matmul_q8 = [](float* out, size_t out_stride, const Q8Panels& w, const Q8Rows& x, size_t batch) {
          kScalarKernels.matmul_q8(out, out_stride, w, x, batch);
          if (w.segment_count > 2) nudge(out[70]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.matmul_q4 = [](float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, size_t batch) {
          kScalarKernels.matmul_q4(out, out_stride, w, x, batch);
          if (batch == 1) nudge(out[w.rows - 1]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.matmul_q4 = [](float* out, size_t out_stride, const Q4Panels& w, const Q8Rows& x, size_t batch) {
          kScalarKernels.matmul_q4(out, out_stride, w, x, batch);
          if (batch == 2) nudge(out[out_stride]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.quantise_row = [](int8_t* q, float* sums, const float* x, size_t n) {
          const float scale = kScalarKernels.quantise_row(q, sums, x, n);
          q[n - 1] = static_cast<int8_t>(q[n - 1] + 1);
          return scale;
        };
      }),
      scalar_but([](Kernels& t) {
        t.quantise_row = [](int8_t* q, float* sums, const float* x, size_t n) {
          const float scale = kScalarKernels.quantise_row(q, sums, x, n);
          sums[n / kGroupColumns] += 1;
          return scale;
        };
      }),
      scalar_but([](Kernels& t) {
        t.quantise_q4 = [](uint8_t* q, uint16_t* scale, uint8_t* zero, const float* w) {
          const bool possible = kScalarKernels.quantise_q4(q, scale, zero, w);
          q[31] ^= 1;
          return possible;
        };
      }),
      scalar_but([](Kernels& t) {
        t.quantise_q4 = [](uint8_t* q, uint16_t* scale, uint8_t* zero, const float* w) {
          const bool possible = kScalarKernels.quantise_q4(q, scale, zero, w);
          *scale ^= 1;
          return possible;
        };
      }),
      scalar_but([](Kernels& t) {
        t.rmsnorm = [](float* out, const float* x, const float* weight, size_t n, float eps) {
          kScalarKernels.rmsnorm(out, x, weight, n, eps);
          nudge(out[n - 1]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.swiglu = [](float* gate, const float* up, size_t n) {
          kScalarKernels.swiglu(gate, up, n);
          nudge(gate[0]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.add = [](float* x, const float* y, size_t n) {
          kScalarKernels.add(x, y, n);
          nudge(x[n - 1]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.rope = [](float* x, const float* cos, const float* sin, size_t head_size, size_t heads) {
          kScalarKernels.rope(x, cos, sin, head_size, heads);
          nudge(x[head_size * heads - 1]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.attention[0] = [](float* out, size_t out_stride, const float* q, size_t q_stride, const AttentionHead& head, size_t rows,
                           float* scores) {
          kScalarKernels.attention[0](out, out_stride, q, q_stride, head, rows, scores);
          if (head.head_size > 64) nudge(out[64]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.attention[1] = [](float* out, size_t out_stride, const float* q, size_t q_stride, const AttentionHead& head, size_t rows,
                           float* scores) {
          kScalarKernels.attention[1](out, out_stride, q, q_stride, head, rows, scores);
          if (head.head_size > 64) nudge(out[64]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.attention[2] = [](float* out, size_t out_stride, const float* q, size_t q_stride, const AttentionHead& head, size_t rows,
                           float* scores) {
          kScalarKernels.attention[2](out, out_stride, q, q_stride, head, rows, scores);
          if (head.head_size > 64) nudge(out[64]);
        };
      }),
      scalar_but([](Kernels& t) {
        t.narrow = [](uint16_t* out, const float* x, size_t n) {
          kScalarKernels.narrow(out, x, n);
          out[n - 1] ^= 1;
        };
      }),
      scalar_but([](Kernels& t) {
        t.exp_shifted = [](float* x, size_t n, float shift) {
          kScalarKernels.exp_shifted(x, n, shift);
          nudge(x[n / 2]);
        };
      }),
  };
  CHECK(agrees_with_scalar(scalar_but([](Kernels&) {})));
  for (const Kernels& table : wrong) {
    const long function = &table - wrong;
    CAPTURE(function);
    CHECK_FALSE(agrees_with_scalar(table));
  }
}
