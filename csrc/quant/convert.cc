#include "quant/convert.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/fp_env.h"
#include "io/checkpoint_writer.h"
#include "quant/q8.h"

namespace tinyzh {

size_t default_group_size(const Config& config) {
  size_t group = 64;
  while (config.dim % group != 0) group /= 2;
  return group;
}

bool groups_straddle_rows(const Config& config, size_t group_size) {
  return config.dim % group_size != 0 || config.hidden_dim % group_size != 0;
}

size_t convert_checkpoint(const Checkpoint& from, const std::string& path, Format format, size_t group_size,
                          const std::function<void(size_t, size_t)>& progress) {
  const StandardFloatingPoint standard;
  if (from.packing != Packing::none)
    fail(Code::invalid_argument, "a tz file of int8 or int4 is packed for computing and not written as ",
         format_name(format), "; convert the checkpoint it was made of");
  if (format == Format::v2 && group_size == 0) group_size = default_group_size(from.config);
  CheckpointWriter writer(path, from.config, format, group_size);
  std::vector<float> values, scales;
  std::vector<int8_t> rounded;
  size_t total = 0, done = 0;
  for (const TensorView& tensor : from.tensors) total += tensor.shape.layers;

  for (; !writer.done(); ++done) {
    if (progress) progress(done, total);
    const auto [id, layer, quantised] = writer.next();
    const TensorView& tensor = from[id];
    const size_t size = tensor.shape.size();
    if (quantised && tensor.quantised && tensor.group_size == group_size) {  // nothing to round again
      scales.resize(size / group_size);
      std::memcpy(scales.data(), tensor.scales(layer), scales.size() * sizeof(float));
      writer.write({tensor.q8(layer), size}, scales);
      continue;
    }
    values.resize(size);
    if (tensor.quantised)
      dequantise_groups({tensor.q8(layer), size}, tensor.group_size, tensor.scales(layer), values.data());
    else
      std::memcpy(values.data(), tensor.f32(layer), size * sizeof(float));
    if (!quantised) {
      writer.write(values);
      continue;
    }
    for (size_t i = 0; i < size; ++i)
      if (!std::isfinite(values[i]))
        fail(Code::checkpoint, tensor_name(id), " of layer ", layer, ": weight ", i, " is ", values[i],
             ", which has no int8 form; mend the checkpoint or convert to v0 or v1");
    rounded.resize(size);
    scales.resize(size / group_size);
    quantise_groups(values, group_size, rounded.data(), scales.data());
    writer.write(rounded, scales);
  }
  writer.commit();
  if (progress) progress(total, total);
  return group_size;
}

}  // namespace tinyzh
