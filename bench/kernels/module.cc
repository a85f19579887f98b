// The kernels for the benchmarks: each function prepares one piece of Work, whose run(n) does it n times
// without the GIL.  Nothing is timed here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/aligned.h"
#include "base/thread_pool.h"
#include "kernels/kernels.h"
#include "peaks.h"
#include "quant/q4.h"
#include "quant/q8.h"
#include "sample/sampler.h"

namespace py = pybind11;

namespace tinyzh::bench {
namespace {

struct Work {
  double bytes = 0;       // of weights or cache that one repetition reads
  double operations = 0;  // of one repetition: a multiplication and an addition each count
  std::function<void(size_t)> once;  // told the number of the repetition

  void run(size_t repetitions) const {
    for (size_t i = 0; i < repetitions; ++i) once(i);
  }
};

template <class T>
using Shared = std::shared_ptr<AlignedBuffer<T>>;  // std::function wants what can be copied

template <class T>
Shared<T> buffer(size_t size) {
  return std::make_shared<AlignedBuffer<T>>(size);
}

Shared<float> random_floats(size_t size) {
  std::minstd_rand random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  auto result = buffer<float>(size);
  for (size_t i = 0; i < size; ++i) (*result)[i] = uniform(random);
  return result;
}

// As many copies of the bytes, each aligned, as fill `footprint` bytes, at least one: repetitions that take
// one after another find none of them in a cache.
struct Copies {
  Shared<std::byte> data;
  size_t stride = 0, count = 1;

  Copies(std::span<const std::byte> first, std::span<const std::byte> second, size_t footprint)
      : stride((first.size() + second.size() + 63) / 64 * 64), count(std::max<size_t>(1, footprint / stride)) {
    data = buffer<std::byte>(stride * count);
    for (size_t i = 0; i < count; ++i) {
      std::copy(first.begin(), first.end(), data->data() + i * stride);
      std::copy(second.begin(), second.end(), data->data() + i * stride + first.size());
    }
  }
  const std::byte* at(size_t i) const { return data->data() + i % count * stride; }
};

// Rows of activations, quantised.
struct Activations {
  Shared<float> f32;
  Shared<int8_t> values;
  Shared<float> sums, scales;
  Q8Rows rows;
};

Activations activations(const Kernels& k, size_t batch, size_t cols) {
  const size_t stride = (cols + kGroupColumns - 1) / kGroupColumns * kGroupColumns;
  Activations a{random_floats(batch * cols), buffer<int8_t>(batch * stride), buffer<float>(batch * stride / kGroupColumns),
                buffer<float>(batch), {}};
  for (size_t b = 0; b < batch; ++b)
    (*a.scales)[b] = k.quantise_row(a.values->data() + b * stride, a.sums->data() + b * stride / kGroupColumns,
                                    a.f32->data() + b * cols, cols);
  a.rows = {a.values->data(), a.sums->data(), a.scales->data(), stride};
  return a;
}

Work matmul(const std::string& isa, const std::string& dtype, size_t rows, size_t cols, size_t batch, size_t footprint) {
  const Kernels& k = choose_kernels(isa);
  const auto weights = random_floats(rows * cols);
  const Activations x = activations(k, batch, cols);
  const auto out = buffer<float>(rows * batch);
  Work work;
  work.operations = 2.0 * static_cast<double>(rows * cols * batch);
  if (dtype == "float32") {
    const Copies copies(std::as_bytes(std::span<const float>(*weights)), {}, footprint);
    work.bytes = static_cast<double>(weights->bytes());
    work.once = [=, &k](size_t i) {
      k.matmul_f32(out->data(), rows, reinterpret_cast<const float*>(copies.at(i)), x.f32->data(), cols, rows, cols, batch);
    };
  } else if (dtype == "int8") {
    const Q8Matrix matrix = Q8Matrix::quantise_rows(rows, cols, weights->data(), k);
    const Copies copies(matrix.packed_values(), matrix.packed_scales(), footprint);
    auto views = std::make_shared<std::vector<Q8Matrix>>();
    for (size_t i = 0; i < copies.count; ++i) views->push_back(Q8Matrix::view(rows, cols, cols, {copies.at(i), matrix.bytes()}));
    work.bytes = static_cast<double>(matrix.bytes());
    work.once = [=, &k](size_t i) {
      const Q8Matrix& m = (*views)[i % copies.count];
      k.matmul_q8(out->data(), rows, m.run(0, m.panels()).panels, x.rows, batch);
    };
  } else if (dtype == "int4") {
    const Q4Matrix matrix = Q4Matrix::quantise(rows, cols, weights->data(), k);
    const Copies copies(matrix.packed(), {}, footprint);
    const size_t bytes = matrix.bytes();
    work.bytes = static_cast<double>(bytes);
    work.once = [=, &k](size_t i) {
      const Q4Matrix m = Q4Matrix::view(rows, cols, {copies.at(i), bytes});
      k.matmul_q4(out->data(), rows, m.run(0, m.panels()), x.rows, batch);
    };
  } else {
    throw py::value_error("dtype: float32, int8 or int4");
  }
  return work;
}

// All heads of a layer; row r sees position + r + 1 positions.  A block holds keys, values, then scales.
Work attention(const std::string& isa, const std::string& dtype, size_t heads, size_t head_size, size_t position,
               size_t rows, size_t footprint) {
  const Kernels& k = choose_kernels(isa);
  const KvType type = dtype == "float32" ? KvType::float32 : dtype == "float16" ? KvType::float16 : KvType::int8;
  const size_t width = type == KvType::float32 ? 4 : type == KvType::float16 ? 2 : 1;
  const size_t keys = kBlockPositions * head_size, values = kBlockPositions * padded8(head_size);
  const size_t scales = type == KvType::int8 ? 2 * kBlockPositions * sizeof(float) : 0;
  const size_t numbers = (keys + values) * width;
  std::vector<std::byte> block(numbers + scales);
  const auto random = random_floats(keys + values);
  if (type == KvType::float32) std::memcpy(block.data(), random->data(), numbers);
  if (type == KvType::float16) k.narrow(reinterpret_cast<uint16_t*>(block.data()), random->data(), keys + values);
  if (type == KvType::int8) {
    for (size_t i = 0; i < numbers; ++i) block[i] = static_cast<std::byte>(static_cast<int8_t>((*random)[i] * 127));
    const std::vector<float> scale(2 * kBlockPositions, 1 / 127.0f);
    std::memcpy(block.data() + numbers, scale.data(), scales);
  }
  const size_t visible = position + rows, blocks = (visible + kBlockPositions - 1) / kBlockPositions;
  const size_t needed = blocks * heads, bytes = needed * block.size();
  const size_t sets = std::max<size_t>(1, footprint / bytes);
  const Copies copies(block, {}, sets * needed * ((block.size() + 63) / 64 * 64));
  const auto table = std::make_shared<std::vector<const std::byte*>>();
  for (size_t i = 0; i < sets * needed; ++i) table->push_back(copies.at(i));
  const AttentionHead head{nullptr, 0, keys * width, numbers, numbers + scales / 2, head_size, position + 1};
  const auto q = random_floats(rows * heads * head_size), out = buffer<float>(rows * heads * head_size);
  const auto scores = buffer<float>(rows * blocks * kBlockPositions);

  Work work;
  work.bytes = static_cast<double>(visible * heads) * static_cast<double>(block.size()) / kBlockPositions;
  for (size_t r = 0; r < rows; ++r) work.operations += 4.0 * static_cast<double>((position + 1 + r) * heads * head_size);
  work.once = [=, &k, owner = copies.data](size_t i) {
    (void)owner;  // the table points into it
    for (size_t h = 0; h < heads; ++h) {
      AttentionHead one = head;
      one.blocks = table->data() + (i % sets * heads + h) * blocks;
      k.attention[static_cast<size_t>(type)](out->data() + h * head_size, heads * head_size, q->data() + h * head_size,
                                             heads * head_size, one, rows, scores->data());
    }
  };
  return work;
}

// The small ones, on n numbers that stay in the first cache.
Work vector(const std::string& isa, const std::string& operation, size_t n) {
  const Kernels& k = choose_kernels(isa);
  const auto x = random_floats(n), y = random_floats(n), out = buffer<float>(n);
  Work work;
  if (operation == "rmsnorm_quantise") {
    const Activations a = activations(k, 1, n);
    work.once = [=, &k](size_t) {
      k.rmsnorm(out->data(), x->data(), y->data(), n, 1e-5f);
      (*a.scales)[0] = k.quantise_row(a.values->data(), a.sums->data(), out->data(), n);
    };
  } else if (operation == "swiglu") {  // on a copy: the result of a result would soon be zero
    work.once = [=, &k](size_t) {
      std::copy_n(x->data(), n, out->data());
      k.swiglu(out->data(), y->data(), n);
    };
  } else if (operation == "draw") {  // softmax, top-p and one random number
    const auto sampler = std::make_shared<Sampler>(SamplingParams{}, k, static_cast<int32_t>(n), std::span<const int32_t>{});
    for (float& logit : std::span<float>(*x)) logit *= 8;
    work.once = [=](size_t) {
      std::copy_n(x->data(), n, out->data());
      sampler->sample(*out, {});
    };
  } else {
    throw py::value_error("operation: rmsnorm_quantise, swiglu or draw");
  }
  return work;
}

// What opening a float32 file as int8 or int4 does with each matrix.
Work quantise(const std::string& isa, const std::string& dtype, size_t rows, size_t cols) {
  const Kernels& k = choose_kernels(isa);
  const auto weights = random_floats(rows * cols);
  Work work;
  work.bytes = static_cast<double>(weights->bytes());
  work.once = [=, &k](size_t) {
    if (dtype == "int8")
      Q8Matrix::quantise_rows(rows, cols, weights->data(), k);
    else
      Q4Matrix::quantise(rows, cols, weights->data(), k);
  };
  return work;
}

// A region of the thread pool with a block for each thread and nothing to do.
Work empty_region(int threads) {
  const auto pool = std::make_shared<ThreadPool>(threads);
  Work work;
  work.once = [=](size_t) { pool->run(pool->threads(), [](size_t, size_t) {}); };
  return work;
}

Work peak(const std::string& isa, bool int8) {
  const Peak loop = peak_of(isa, int8);
  Work work;
  work.operations = loop.operations;
  work.once = [run = loop.run](size_t) {
    if (run) run();
  };
  return work;
}

Work read(size_t bytes) {
  const auto data = buffer<uint64_t>(bytes / sizeof(uint64_t));
  std::fill_n(data->data(), data->size(), 1);  // pages of their own, not the one page of zeros
  const auto sum = std::make_shared<uint64_t>(0);
  Work work;
  work.bytes = static_cast<double>(data->bytes());
  work.once = [=](size_t) { *sum += read_all(*data); };
  return work;
}

PYBIND11_MODULE(_kernels, module) {
  py::class_<Work>(module, "Work")
      .def_readonly("bytes", &Work::bytes)
      .def_readonly("operations", &Work::operations)
      .def("run", &Work::run, py::arg("repetitions"), py::call_guard<py::gil_scoped_release>());
  module.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* k : runnable_kernels()) names.emplace_back(k->name);
    return names;
  });
  module.def("matmul", &matmul);
  module.def("attention", &attention);
  module.def("vector", &vector);
  module.def("quantise", &quantise);
  module.def("empty_region", &empty_region);
  module.def("peak", &peak);
  module.def("read", &read);
}

}  // namespace
}  // namespace tinyzh::bench
