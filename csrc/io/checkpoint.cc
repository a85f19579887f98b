#include "io/checkpoint.h"

#include "base/checked.h"
#include "base/error.h"
#include "io/foreign.h"
#include "io/layout.h"
#include "io/load.h"
#include "io/tz.h"
#include "io/tz_layout.h"

namespace tinyzh {
namespace {

using Bytes = std::span<const std::byte>;
constexpr std::string_view kFetchAgain = "; the file is damaged or incomplete: download or convert it again";

Config load_dims(const std::byte* from) {
  const auto field = [from](size_t i) { return load<int32_t>(from + i * sizeof(int32_t)); };
  Config c;
  c.dim = field(0);
  c.hidden_dim = field(1);
  c.n_layers = field(2);
  c.n_heads = field(3);
  c.n_kv_heads = field(4);
  c.vocab_size = field(5);
  c.seq_len = field(6);
  return c;
}

struct Header {
  Format format;
  Config config;
  int32_t group_size = 0;
};

// Nothing marks a v0 file: it is one if its seven numbers make sense.  Where they do not, the likely
// reason is a file of another kind, so that is looked for before a number is blamed.
Header parse_header_v0(Bytes bytes, std::string_view name) {
  Header header{Format::v0, {}};
  std::string problem;
  if (bytes.size() < kHeaderSizeV0) {
    problem = concat("it has ", bytes.size(), " bytes, and a header alone has ", kHeaderSizeV0);
  } else {
    header.config = load_dims(bytes.data());
    int32_t& vocab_size = header.config.vocab_size;
    // Negative: the classifier has weights of its own.  (INT32_MIN, which has no counterpart, is
    // left as it is and refused with the rest.)
    if (vocab_size < 0 && vocab_size >= -kMaxVocab) {
      header.config.tied = false;
      vocab_size = -vocab_size;
    }
    problem = header_problem(header.config, header.format, 0);
  }
  if (problem.empty()) return header;
  if (const std::string kind = describe_foreign(bytes); !kind.empty()) {
    fail(Code::checkpoint, name, ": its ", bytes.size(), " bytes are not a llama2.c checkpoint but ", kind);
  }
  fail(Code::checkpoint, name, ": not a llama2.c checkpoint: no magic number, and as a v0 header its start "
       "makes no sense: ", problem, kFetchAgain);
}

Header parse_header_v1_v2(Bytes bytes, std::string_view name) {
  if (bytes.size() < kHeaderSizeV1) {
    fail(Code::checkpoint, name, ": ends inside its header: ", bytes.size(), " of ", kHeaderSizeV1, " bytes",
         kFetchAgain);
  }
  const auto version = load<int32_t>(&bytes[kVersionOffset]);
  if (version != 1 && version != 2) {
    fail(Code::checkpoint, name, ": a llama2.c checkpoint of version ", version,
         "; versions 0, 1 and 2 can be read: export the model again as one of them");
  }
  Header header{version == 1 ? Format::v1 : Format::v2, load_dims(&bytes[kDimsOffset])};
  const auto tied = load<uint8_t>(&bytes[kTiedOffset]);
  if (tied > 1) {
    fail(Code::checkpoint, name, ": the flag for a tied classifier is ", int{tied}, ", which must be 0 or 1",
         kFetchAgain);
  }
  header.config.tied = tied == 1;
  size_t padding = kGroupSizeOffset;
  if (version == 2) {
    header.group_size = load<int32_t>(&bytes[kGroupSizeOffset]);
    padding += sizeof(int32_t);
  }
  if (const std::string problem = header_problem(header.config, header.format, header.group_size);
      !problem.empty()) {
    fail(Code::checkpoint, name, ": ", problem, kFetchAgain);
  }
  // A later exporter would put new fields here, and what they change would be lost in silence.
  for (size_t i = padding; i < kHeaderSizeV1; ++i) {
    if (bytes[i] != std::byte{0}) {
      fail(Code::checkpoint, name, ": byte ", i, " of the header is ", std::to_integer<int>(bytes[i]),
           " where v", version, " has a 0; the file is damaged or from a newer exporter: export it again as v1 or v2");
    }
  }
  return header;
}

Header parse_header(Bytes bytes, std::string_view name) {
  if (bytes.empty()) fail(Code::checkpoint, name, ": the file is empty (0 bytes); download or convert it again");
  const bool magic = bytes.size() >= sizeof kMagic && load<uint32_t>(bytes.data()) == kMagic;
  return magic ? parse_header_v1_v2(bytes, name) : parse_header_v0(bytes, name);
}

std::string_view section_name(const Section& section) {
  return section.tensor ? tensor_name(*section.tensor) : "the RoPE tables";
}

// "wq, layer 3": where byte `into` of a section lies.
std::string place(const Section& section, uint64_t into) {
  if (section.layers == 1) return concat(section_name(section));
  return concat(section_name(section), ", layer ", into / section.layer_bytes);
}

// `start` is where the first section that does not fit begins.
[[noreturn]] void fail_truncated(Bytes bytes, std::string_view name, const Header& header,
                                 const Section& section, uint64_t start) {
  const uint64_t into = bytes.size() - start;
  const bool between = into % section.layer_bytes == 0;
  fail(Code::checkpoint, name, ": too short: it has ", bytes.size(), " bytes where its header (",
       format_name(header.format), ") describes ",
       file_size(header.config, header.format, static_cast<size_t>(header.group_size)), "; it ends ",
       between ? "before " : "in ", place(section, into), kFetchAgain);
}

bool all_finite(const std::byte* scales, size_t count) {
  constexpr uint32_t kExponent = 0x7f800000;  // all ones: infinite or not a number
  bool finite = true;
  for (size_t i = 0; i < count; ++i) {
    finite &= (load<uint32_t>(scales + i * sizeof(float)) & kExponent) != kExponent;
  }
  return finite;
}

// One bad scale would turn a whole group, and with it every story, into "not a number".
void check_scales(const TensorView& tensor, std::string_view tensor_name, std::string_view name) {
  const size_t count = tensor.shape.size() / tensor.group_size;
  for (size_t layer = 0; layer < tensor.shape.layers; ++layer) {
    const std::byte* scales = tensor.scales(layer);
    if (all_finite(scales, count)) continue;
    size_t i = 0;
    while (all_finite(scales + i * sizeof(float), 1)) ++i;
    fail(Code::checkpoint, name, ": scale ", i, " of ", tensor_name, ", layer ", layer, ", is ",
         load<float>(scales + i * sizeof(float)), ", which must be a finite number", kFetchAgain);
  }
}

}  // namespace

std::string_view format_name(Format format) {
  switch (format) {
    case Format::v0: return "llama2.c v0";
    case Format::v1: return "llama2.c v1";
    case Format::v2: return "llama2.c v2";
    case Format::tz: return "tinyzh tz";
    case Format::arrays: return "arrays";
  }
  return "unknown";
}

std::string_view tensor_name(TensorId id) {
  static constexpr std::array<std::string_view, kTensorCount> kNames = {
      "tok_emb", "rms_att", "wq", "wk", "wv", "wo", "rms_ffn", "w1", "w2", "w3", "rms_final", "wcls"};
  return kNames[static_cast<size_t>(id)];
}

TensorShape tensor_shape(const Config& config, TensorId id) {
  const auto dim = static_cast<size_t>(config.dim);
  const auto hidden_dim = static_cast<size_t>(config.hidden_dim);
  const auto n_layers = static_cast<size_t>(config.n_layers);
  const auto kv_dim = static_cast<size_t>(config.kv_dim());
  const auto vocab_size = static_cast<size_t>(config.vocab_size);
  switch (id) {
    case TensorId::tok_emb: return {1, vocab_size, dim};
    case TensorId::rms_att: return {n_layers, 1, dim};
    case TensorId::wq: return {n_layers, dim, dim};
    case TensorId::wk: return {n_layers, kv_dim, dim};
    case TensorId::wv: return {n_layers, kv_dim, dim};
    case TensorId::wo: return {n_layers, dim, dim};
    case TensorId::rms_ffn: return {n_layers, 1, dim};
    case TensorId::w1: return {n_layers, hidden_dim, dim};
    case TensorId::w2: return {n_layers, dim, hidden_dim};
    case TensorId::w3: return {n_layers, hidden_dim, dim};
    case TensorId::rms_final: return {1, 1, dim};
    case TensorId::wcls: return {config.tied ? size_t{0} : size_t{1}, vocab_size, dim};
  }
  return {};
}

size_t Checkpoint::parameters() const {
  size_t sum = 0;
  for (const TensorView& tensor : tensors) sum += tensor.shape.layers * tensor.shape.size();
  return sum;
}

Checkpoint parse_checkpoint(Bytes bytes, std::string_view name) {
  if (is_tz(bytes)) return parse_tz(bytes, name);
  const Header header = parse_header(bytes, name);
  Checkpoint checkpoint{header.format, header.config, static_cast<size_t>(header.group_size), {}};
  for (size_t i = 0; i < kTensorCount; ++i) {
    checkpoint.tensors[i].shape = tensor_shape(header.config, static_cast<TensorId>(i));
  }

  uint64_t offset = header_size(header.format);  // never beyond bytes.size()
  for (const Section& section : file_sections(header.config, header.format, checkpoint.group_size)) {
    const std::optional<uint64_t> end = checked_add(offset, section.bytes());
    if (!end || *end > bytes.size()) fail_truncated(bytes, name, header, section, offset);
    if (section.tensor) {
      TensorView& tensor = checkpoint.tensors[static_cast<size_t>(*section.tensor)];
      tensor.quantised = section.quantised;
      tensor.data = bytes.data() + offset;
      tensor.layer_stride = static_cast<size_t>(section.layer_bytes);
      tensor.group_size = section.quantised ? checkpoint.group_size : 0;
      if (tensor.quantised) check_scales(tensor, tensor_name(*section.tensor), name);
    }
    offset = *end;
  }
  if (offset != bytes.size()) {
    fail(Code::checkpoint, name, ": too long: it has ", bytes.size(), " bytes where its header (",
         format_name(header.format), ") describes ", offset, ": ", bytes.size() - offset,
         " bytes too many", kFetchAgain);
  }
  return checkpoint;
}

Checkpoint checkpoint_of_arrays(const Config& config, const TensorArrays& arrays) {
  // Like tz, arrays may have any norm_eps and rope_theta.
  if (const std::string problem = tz_problem(config, Packing::none, 0); !problem.empty())
    fail(Code::invalid_argument, problem);
  Checkpoint checkpoint{Format::arrays, config, 0, {}};
  for (size_t i = 0; i < kTensorCount; ++i) {
    const auto id = static_cast<TensorId>(i);
    TensorView& tensor = checkpoint.tensors[i];
    tensor.shape = tensor_shape(config, id);
    tensor.data = std::as_bytes(arrays[i]).data();
    tensor.layer_stride = tensor.shape.size() * sizeof(float);
    if (const size_t wanted = tensor.shape.layers * tensor.shape.size(); arrays[i].size() != wanted)
      fail(Code::invalid_argument, tensor_name(id), " has ", arrays[i].size(), " numbers, and its shape (",
           tensor.shape.layers, ", ", tensor.shape.rows, ", ", tensor.shape.cols, ") has ", wanted);
  }
  return checkpoint;
}

}  // namespace tinyzh
