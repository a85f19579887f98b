#include "base/numerics.h"
#include "capi/handles.h"
#include "engine/backends.h"

#ifndef TINYZH_VERSION
#define TINYZH_VERSION "unknown"
#endif

using namespace tinyzh;

namespace {

ModelOptions options_of(const tinyzh_model_options* given) {
  const tinyzh_model_options o = complete(given, tinyzh_model_options_default());
  ModelOptions options;
  options.threads = o.threads;
  if (o.isa) options.isa = o.isa;
  if (o.device) options.device = device_of(o.device);
  if (o.allocator) {
    require(o.allocator->allocate && o.allocator->release, "a function of allocator");
    options.allocator = {o.allocator->allocate, o.allocator->release, o.allocator->user};
  }
  switch (o.weights) {
    case TINYZH_AUTO: break;
    case TINYZH_FLOAT32: options.dtype = DType::float32; break;
    case TINYZH_FLOAT16: set_dtype(options, "float16"); break;
    case TINYZH_BFLOAT16: set_dtype(options, "bfloat16"); break;
    case TINYZH_INT8: options.dtype = DType::int8; break;
    case TINYZH_INT4: options.dtype = DType::int4; break;
    default: fail(Code::invalid_argument, "weights is ", o.weights, ": expected AUTO, FLOAT32, FLOAT16, BFLOAT16, INT8 or INT4");
  }
  switch (o.cache) {
    case TINYZH_AUTO: break;
    case TINYZH_FLOAT32: options.kv_type = KvType::float32; break;
    case TINYZH_FLOAT16: options.kv_type = KvType::float16; break;
    case TINYZH_INT8: options.kv_type = KvType::int8; break;
    default: fail(Code::invalid_argument, "cache is ", o.cache, ": expected AUTO, FLOAT32, FLOAT16 or INT8");
  }
  return options;
}

}  // namespace

uint32_t tinyzh_abi_version(void) { return TINYZH_ABI_VERSION; }
uint32_t tinyzh_numerics_version(void) { return static_cast<uint32_t>(kNumericsVersion); }
const char* tinyzh_version(void) { return TINYZH_VERSION; }

tinyzh_model_options tinyzh_model_options_default(void) {
  tinyzh_model_options options = {};
  options.struct_size = sizeof options;
  return options;
}

int32_t tinyzh_model_open(const char* path, const tinyzh_model_options* options, tinyzh_model** model,
                          tinyzh_error* error) {
  return guarded(error, [&] {
    require(path, "path");
    require(model, "model");
    *model = nullptr;
    *model = new tinyzh_model{std::make_shared<Model>(path, options_of(options))};
  });
}

int32_t tinyzh_model_open_memory(const void* data, size_t size, const tinyzh_model_options* options,
                                 tinyzh_model** model, tinyzh_error* error) {
  return guarded(error, [&] {
    require(data || size == 0, "data");
    require(model, "model");
    *model = nullptr;
    const std::span bytes(static_cast<const std::byte*>(data), size);
    *model = new tinyzh_model{std::make_shared<Model>(bytes, options_of(options))};
  });
}

void tinyzh_model_close(tinyzh_model* model) { delete model; }

tinyzh_model_info tinyzh_model_get_info(const tinyzh_model* model) {
  if (!model) return {};
  const Model& m = *model->model;
  const Config& c = m.config();
  tinyzh_model_info info = {};
  info.dim = c.dim;
  info.hidden_dim = c.hidden_dim;
  info.n_layers = c.n_layers;
  info.n_heads = c.n_heads;
  info.n_kv_heads = c.n_kv_heads;
  info.vocab_size = c.vocab_size;
  info.context = c.seq_len;
  info.parameters = m.checkpoint().parameters();
  info.file_bytes = m.source_bytes();
  info.weight_bytes = m.weights().owned_bytes();
  info.cache_page_bytes = m.kv_layout().block_bytes();
  try {
    info.fingerprint = m.fingerprint();
  } catch (const Error&) {  // the file was cut: nothing fits it any more
  }
  return info;
}
