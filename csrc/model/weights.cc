#include "model/weights.h"

#include <atomic>
#include <cstring>
#include <exception>
#include <new>

#include "base/error.h"

namespace tinyzh {
namespace {

struct Job {  // one matrix of the file and where it goes
  Matrix* target;
  const TensorView* source;
  TensorId id;
  size_t layer;
};

}  // namespace

std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::int8: return "int8";
    case DType::int4: return "int4";
    case DType::float32: break;
  }
  return "float32";
}

Packing packing_of(DType dtype) {
  switch (dtype) {
    case DType::int8: return Packing::q8;
    case DType::int4: return Packing::q4;
    case DType::float32: break;
  }
  return Packing::none;
}

DType own_dtype(const Checkpoint& checkpoint) {
  if (checkpoint.format == Format::v2 || checkpoint.packing == Packing::q8) return DType::int8;
  return checkpoint.packing == Packing::q4 ? DType::int4 : DType::float32;
}

void Matrix::row(size_t index, float* out) const {
  switch (dtype) {
    case DType::int8: return q8.dequantise_row(index, out);
    case DType::int4: return q4.dequantise_row(index, out);
    case DType::float32: break;
  }
  std::memcpy(out, f32 + index * cols, cols * sizeof(float));
}

Weights::Weights(const Checkpoint& checkpoint, DType type, const Kernels& kernels, ThreadPool& pool,
                 const std::function<void(size_t, size_t)>& progress, const Allocator& allocator)
    : config(checkpoint.config), dtype(type), independent(checkpoint.format == Format::arrays && type != DType::float32),
      group_size(type == DType::int8 ? checkpoint.group_size : 0),
      layers(static_cast<size_t>(checkpoint.config.n_layers)) {
  if (checkpoint.packing != Packing::none && checkpoint.packing != packing_of(dtype))
    fail(Code::invalid_argument, "dtype is ", dtype_name(dtype), ", but the file is a tz of ",
         dtype_name(own_dtype(checkpoint)),
         ", packed for that alone; use dtype auto, or open the checkpoint it was made of");
  std::vector<Job> jobs;
  auto add = [&](Matrix& target, TensorId id, size_t layer) {
    const TensorView& source = checkpoint[id];
    target.rows = source.shape.rows;
    target.cols = source.shape.cols;
    target.dtype = dtype;
    if (dtype != DType::float32 && target.cols > kMostQuantisedColumns)
      fail(Code::checkpoint, tensor_name(id), ": rows of ", target.cols, " columns, above the ", kMostQuantisedColumns,
           " of quantised matrices; use dtype float32");
    if (source.packing == Packing::q8)
      target.q8 = Q8Matrix::view(target.rows, target.cols, source.group_size, source.packed(layer));
    else if (source.packing == Packing::q4)
      target.q4 = Q4Matrix::view(target.rows, target.cols, source.packed(layer));
    else if (dtype == DType::float32 && !source.quantised)
      target.f32 = source.f32(layer);
    else
      jobs.push_back({&target, &source, id, layer});
  };
  const size_t dim = static_cast<size_t>(config.dim);
  if (independent) vectors_.reserve((2 * layers.size() + 1) * dim);  // so that none of them moves
  auto vector = [&](TensorId id, size_t layer) -> const float* {
    const float* values = checkpoint[id].f32(layer);
    return independent ? &*vectors_.insert(vectors_.end(), values, values + dim) : values;
  };
  add(tok_emb, TensorId::tok_emb, 0);
  for (size_t l = 0; l < layers.size(); ++l) {
    LayerWeights& layer = layers[l];
    layer.rms_att = vector(TensorId::rms_att, l);
    layer.rms_ffn = vector(TensorId::rms_ffn, l);
    add(layer.wq, TensorId::wq, l);
    add(layer.wk, TensorId::wk, l);
    add(layer.wv, TensorId::wv, l);
    add(layer.wo, TensorId::wo, l);
    add(layer.w1, TensorId::w1, l);
    add(layer.w2, TensorId::w2, l);
    add(layer.w3, TensorId::w3, l);
  }
  rms_final = vector(TensorId::rms_final, 0);
  if (!config.tied) add(wcls_, TensorId::wcls, 0);

  if (dtype == DType::float32) dequantised_.resize(jobs.size());
  std::vector<std::exception_ptr> errors(jobs.size());  // nothing may be thrown on a worker
  std::exception_ptr stopped;                           // what progress threw
  std::atomic<bool> stop = false;
  std::atomic<size_t> done = 0;
  pool.run(jobs.size(), [&](size_t i, size_t worker) {
    if (stop.load(std::memory_order_relaxed)) return;
    const Job& job = jobs[i];
    const TensorView& from = *job.source;
    const size_t rows = job.target->rows, cols = job.target->cols;
    try {
      if (dtype == DType::float32) {
        dequantised_[i] = AlignedBuffer<float>(rows * cols, allocator);
        dequantise_groups({from.q8(job.layer), rows * cols}, from.group_size, from.scales(job.layer), dequantised_[i].data());
        job.target->f32 = dequantised_[i].data();
      } else if (from.quantised && dtype == DType::int4) {
        std::vector<float> wide(rows * cols);
        dequantise_groups({from.q8(job.layer), rows * cols}, from.group_size, from.scales(job.layer), wide.data());
        job.target->q4 = Q4Matrix::quantise(rows, cols, wide.data(), kernels, allocator);
      } else if (from.quantised) {
        job.target->q8 = Q8Matrix::pack(rows, cols, from.group_size, from.q8(job.layer), from.scales(job.layer), allocator);
      } else if (dtype == DType::int8) {
        job.target->q8 = Q8Matrix::quantise_rows(rows, cols, from.f32(job.layer), kernels, allocator);
      } else {
        job.target->q4 = Q4Matrix::quantise(rows, cols, from.f32(job.layer), kernels, allocator);
      }
    } catch (const Error& error) {
      errors[i] = std::make_exception_ptr(
          Error(error.code(), concat(tensor_name(job.id), " of layer ", job.layer, ": ", error.what())));
    } catch (const std::bad_alloc&) {
      errors[i] = std::current_exception();
    }
    const size_t now = ++done;
    if (worker != 0 || !progress) return;  // the caller is worker 0
    try {
      progress(now, jobs.size());
    } catch (...) {
      stopped = std::current_exception();
      stop.store(true, std::memory_order_relaxed);
    }
  });
  if (stopped) std::rethrow_exception(stopped);
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

const float* Weights::vector(TensorId id, size_t layer) const {
  switch (id) {
    case TensorId::rms_att: return layers[layer].rms_att;
    case TensorId::rms_ffn: return layers[layer].rms_ffn;
    case TensorId::rms_final: return rms_final;
    default: return nullptr;
  }
}

const Matrix& Weights::matrix(TensorId id, size_t layer) const {
  switch (id) {
    case TensorId::wq: return layers[layer].wq;
    case TensorId::wk: return layers[layer].wk;
    case TensorId::wv: return layers[layer].wv;
    case TensorId::wo: return layers[layer].wo;
    case TensorId::w1: return layers[layer].w1;
    case TensorId::w2: return layers[layer].w2;
    case TensorId::w3: return layers[layer].w3;
    case TensorId::wcls: return wcls();
    default: return tok_emb;
  }
}

size_t Weights::bytes_per_token() const {
  size_t bytes = wcls().bytes() + config.dim * sizeof(float);
  for (const LayerWeights& l : layers) {
    for (const Matrix* m : {&l.wq, &l.wk, &l.wv, &l.wo, &l.w1, &l.w2, &l.w3}) bytes += m->bytes();
    bytes += 2 * config.dim * sizeof(float);
  }
  return bytes;
}

size_t Weights::owned_bytes() const {
  size_t bytes = vectors_.size() * sizeof(float) + tok_emb.owned_bytes() + wcls_.owned_bytes();
  for (const LayerWeights& l : layers)
    for (const Matrix* m : {&l.wq, &l.wk, &l.wv, &l.wo, &l.w1, &l.w2, &l.w3}) bytes += m->owned_bytes();
  for (const AlignedBuffer<float>& buffer : dequantised_) bytes += buffer.bytes();
  return bytes;
}

}  // namespace tinyzh
