// tinyzh._core: argument names, docstrings, GIL and error translation; no logic.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <charconv>
#include <cstring>
#include <memory>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/process.h"
#include "base/thread_pool.h"
#include "engine/backends.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "engine/mailbox.h"
#include "engine/session_file.h"
#include "io/checkpoint.h"
#include "io/foreign.h"
#include "io/mapped_file.h"
#include "io/tz.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "model/pack.h"
#include "base/numerics.h"
#include "quant/convert.h"
#include "text/bpe_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace py = pybind11;
using namespace py::literals;

namespace tinyzh {
namespace {

// The GIL let go of, and the number of threads that are without it.  A thread that comes back for it when
// the interpreter is already going is killed, which C++ answers with an abort.  So the package, at exit,
// waits until none is away, and from then on none leaves.
std::atomic<int> threads_away{0};
bool all_stay = false;  // guarded by the GIL

class Away {
 public:
  Away() {
    if (!all_stay) release_.emplace();
  }

 private:
  struct Count {
    Count() { ++threads_away; }
    ~Count() { --threads_away; }
  } count_;
  std::optional<py::gil_scoped_release> release_;  // the last to be made, the first to go
};

bool stay_from_now_on() {
  if (threads_away == 0) all_stay = true;
  return all_stay;
}

// In a forked child, where the threads that were away are not.
void forked() { threads_away = 0; }

using NoGil = py::call_guard<Away>;
using FloatArray = py::array_t<float>;

// ---- errors: the class of tinyzh.errors with the code's name ----------------------------------------

const char* python_class(Code code) {
  switch (code) {
    case Code::invalid_argument: return "InvalidArgument";
    case Code::file: return "FileError";
    case Code::checkpoint: return "CheckpointError";
    case Code::tokenizer: return "TokenizerError";
    case Code::context_full: return "ContextFull";
    case Code::queue_full: return "QueueFull";
    case Code::backend: return "BackendError";
    case Code::ok:
    case Code::generation:
    case Code::closed:
    case Code::out_of_memory:
    case Code::busy: break;
  }
  return "GenerationError";
}

void translate(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const Error& e) {
    const char* what = e.what();  // names a path, so perhaps no UTF-8: then as Python shows such a path
    const auto message = py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(what, static_cast<py::ssize_t>(std::strlen(what)), "backslashreplace"));
    const bool memory = e.code() == Code::out_of_memory;
    const py::object type = memory ? py::reinterpret_borrow<py::object>(PyExc_MemoryError)
                                   : py::module_::import("tinyzh.errors").attr(python_class(e.code()));
    PyErr_SetObject(type.ptr(), message.ptr());
  }
}

// ---- small conversions ----------------------------------------------------------------------------

std::span<const std::byte> bytes_of(const py::bytes& bytes) {
  const std::string_view view = bytes;
  return std::as_bytes(std::span(view.data(), view.size()));
}

std::string_view finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::none: return "";
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
    case FinishReason::timeout: return "timeout";
    case FinishReason::error: return "error";
  }
  return "";
}

py::object finish_object(FinishReason reason) {
  return reason == FinishReason::none ? py::object(py::none()) : py::str(finish_name(reason));
}

Format format_of(const std::string& name) {
  for (Format format : {Format::v0, Format::v1, Format::v2})
    if (format_name(format) == "llama2.c " + name) return format;
  fail(Code::invalid_argument, "format is '", name, "': expected v0, v1 or v2");
}

std::optional<DType> dtype_of(const std::string& name) {
  if (name == "auto") return std::nullopt;
  for (DType dtype : {DType::float32, DType::int8, DType::int4})
    if (dtype_name(dtype) == name) return dtype;
  fail(Code::invalid_argument, "dtype is '", name, "': expected auto, float32, int8 or int4");
}

std::optional<KvType> kv_type_of(const std::string& name) {
  if (name == "auto") return std::nullopt;
  for (KvType type : {KvType::float32, KvType::float16, KvType::int8})
    if (kv_type_name(type) == name) return type;
  fail(Code::invalid_argument, "kv_dtype is '", name, "': expected auto, float32, float16 or int8");
}

// 1e-5f as 1e-05 and not as 9.999999747378752e-06.
double shortest(float value) {
  char digits[32];
  const auto written = std::to_chars(digits, digits + sizeof digits, value);
  double same = 0;
  std::from_chars(digits, written.ptr, same);
  return same;
}

py::dict config_dict(const Config& c) {
  return py::dict("dim"_a = c.dim, "hidden_dim"_a = c.hidden_dim, "n_layers"_a = c.n_layers, "n_heads"_a = c.n_heads,
                  "n_kv_heads"_a = c.n_kv_heads, "vocab_size"_a = c.vocab_size, "seq_len"_a = c.seq_len,
                  "tied"_a = c.tied, "norm_eps"_a = shortest(c.norm_eps), "rope_theta"_a = c.rope_theta);
}

py::dict checkpoint_dict(const Checkpoint& checkpoint, size_t file_bytes) {
  py::list tensors;
  for (size_t i = 0; i < kTensorCount; ++i) {
    const TensorView& t = checkpoint.tensors[i];
    if (t.shape.layers == 0) continue;
    tensors.append(py::dict("name"_a = tensor_name(static_cast<TensorId>(i)), "layers"_a = t.shape.layers,
                            "rows"_a = t.shape.rows, "cols"_a = t.shape.cols,
                            "quantised"_a = t.quantised || t.packing != Packing::none));
  }
  return py::dict("format"_a = format_name(checkpoint.format), "config"_a = config_dict(checkpoint.config),
                  "group_size"_a = checkpoint.group_size, "numerics_version"_a = checkpoint.numerics,
                  "parameters"_a = checkpoint.parameters(),
                  "file_bytes"_a = file_bytes, "tensors"_a = tensors);
}

// ---- who lets go, and when -------------------------------------------------------------------------

// In a forked child the threads of what the parent opened are missing: joining them, or destroying a
// lock they hold, would wait for ever.  What was opened before the fork is therefore left where it is.
template <class T>
std::shared_ptr<T> owned(T* object, void (*destroy)(T*)) {
  return {object, [destroy, process = process_id()](T* o) {
    if (process == process_id()) destroy(o);
  }};
}

void destroy(Engine* engine) {
  const py::gil_scoped_release release;  // it waits for its thread's step to end
  delete engine;
}

void destroy(Model* model) { delete model; }
void destroy(Batch* batch) { delete batch; }

// Destroying this is letting go of the one share that it holds.
void destroy(std::shared_ptr<Request>* share) { delete share; }

std::shared_ptr<Request> owned_by_python(std::shared_ptr<Request> request) {
  const auto share = owned(new std::shared_ptr<Request>(std::move(request)), &destroy);
  return {share, share->get()};
}

// ---- calls that need more than a name ---------------------------------------------------------------

std::optional<Request::Clock::time_point> deadline_after(std::optional<double> seconds) {
  if (!seconds) return std::nullopt;
  return Request::Clock::now() + std::chrono::duration_cast<Request::Clock::duration>(std::chrono::duration<double>(*seconds));
}

std::shared_ptr<Request> submit_score(Engine& engine, std::vector<int32_t> ids, size_t from, int32_t priority,
                                      std::optional<double> timeout) {
  RequestOptions options;
  options.prompt = std::move(ids);
  options.score_from = from;
  options.priority = priority;
  options.deadline = deadline_after(timeout);
  const Away away;
  return owned_by_python(engine.submit(std::move(options)));
}

std::shared_ptr<Request> submit(Engine& engine, std::vector<int32_t> prompt, double temperature, double top_p,
                                int32_t top_k, double min_p, double repetition_penalty, double presence_penalty,
                                double frequency_penalty, std::vector<std::pair<int32_t, float>> logit_bias,
                                int32_t logprobs, uint64_t seed, int64_t max_new_tokens, int64_t min_new_tokens,
                                std::vector<int32_t> end_tokens, std::vector<std::string> stop,
                                std::vector<std::string> bad_words, bool trim_first_space, bool shift,
                                int32_t priority, std::optional<double> timeout) {
  RequestOptions options;
  options.prompt = std::move(prompt);
  SamplingParams& s = options.sampling;
  s.temperature = static_cast<float>(temperature);
  s.top_p = static_cast<float>(top_p);
  s.top_k = top_k;
  s.min_p = static_cast<float>(min_p);
  s.repetition_penalty = static_cast<float>(repetition_penalty);
  s.presence_penalty = static_cast<float>(presence_penalty);
  s.frequency_penalty = static_cast<float>(frequency_penalty);
  s.logit_bias = std::move(logit_bias);
  s.logprobs = logprobs;
  s.seed = seed;
  options.max_new_tokens = max_new_tokens;
  options.min_new_tokens = min_new_tokens;
  options.end_tokens = std::move(end_tokens);
  options.stop = std::move(stop);
  options.bad_words = std::move(bad_words);
  options.trim_first_space = trim_first_space;
  options.overflow = shift ? Overflow::shift : Overflow::stop;
  options.priority = priority;
  options.deadline = deadline_after(timeout);
  const Away away;
  return owned_by_python(engine.submit(std::move(options)));
}

py::tuple wait(Request& request, size_t from, double seconds) {
  Request::Snapshot snapshot;
  {
    const Away away;
    snapshot = request.wait(from, seconds);
  }
  return py::make_tuple(snapshot.pieces, finish_object(snapshot.finish));
}

py::list logprobs(const Request& request) {
  py::list list;
  if (request.options().sampling.logprobs < 0) return list;  // nobody asked for them
  for (const Sample& sample : request.samples()) {
    py::list top;
    for (const TokenLogprob& t : sample.top) top.append(py::make_tuple(t.token, t.logprob));
    list.append(py::make_tuple(sample.token, sample.logprob, top));
  }
  return list;
}

py::dict timing(const Request& request) {
  const Request::Timing t = request.timing();
  auto seconds = [](double s) { return s < 0 ? py::object(py::none()) : py::float_(s); };
  return py::dict("started"_a = seconds(t.started), "first_token"_a = seconds(t.first_token),
                  "finished"_a = seconds(t.finished));
}

// The engine's thread never takes the GIL: it leaves word, and a thread of Python reads it.
void set_mailbox(Request& request, std::shared_ptr<Mailbox> mailbox, uint64_t key) {
  const Away away;
  if (!mailbox) return request.set_waker({}, false);
  request.set_waker([mailbox = std::move(mailbox), key] { mailbox->put(key); }, false);
}

// None: whoever has a key may have news.
std::optional<std::vector<uint64_t>> take(Mailbox& mailbox, double seconds) {
  Mailbox::Word word = mailbox.take(seconds);
  if (word.missed) return std::nullopt;
  return std::move(word.keys);
}

FloatArray logits(Engine& engine, const std::vector<int32_t>& ids) {
  const auto vocab = static_cast<size_t>(engine.model().config().vocab_size);
  FloatArray out({ids.size(), vocab});
  float* target = out.mutable_data();
  const Away away;
  engine.evaluate(ids, [&](size_t first, std::span<const float> rows) {
    std::memcpy(target + first * vocab, rows.data(), rows.size_bytes());
  });
  return out;
}

FloatArray step(Batch& batch, const std::vector<int32_t>& tokens) {
  FloatArray out({batch.streams(), batch.vocab_size()});
  float* target = out.mutable_data();
  const Away away;
  batch.step(tokens, target);
  return out;
}

FloatArray scores(const Request& request) {
  const std::vector<float> scores = request.scores();
  FloatArray out(static_cast<py::ssize_t>(scores.size()));
  std::copy(scores.begin(), scores.end(), out.mutable_data());
  return out;
}

py::dict percentiles(const Percentiles& p) { return py::dict("p50"_a = p.p50, "p90"_a = p.p90, "p99"_a = p.p99); }

py::dict stats(const Engine& engine) {
  Stats s;
  {
    const Away away;
    s = engine.stats();
  }
  return py::dict("running"_a = s.running, "waiting"_a = engine.waiting(), "pages"_a = s.pages, "pages_limit"_a = s.pages_limit,
                  "pages_kept"_a = s.pages_kept, "pages_allocated"_a = s.pages_allocated, "page_bytes"_a = s.page_bytes,
                  "steps"_a = s.steps, "requests"_a = s.requests, "preemptions"_a = s.preemptions,
                  "prompt_tokens"_a = s.prompt_tokens, "reused_tokens"_a = s.reused_tokens, "new_tokens"_a = s.new_tokens,
                  "tokens_per_second"_a = s.tokens_per_second, "step_seconds"_a = percentiles(s.step),
                  "overhead_seconds"_a = percentiles(s.overhead), "first_token_seconds"_a = percentiles(s.first_token));
}

py::dict trace(Engine& engine, const std::vector<int32_t>& ids, const std::set<std::string>& only) {
  struct Named {
    std::vector<float> values;
    size_t cols;
  };
  std::map<std::string, Named> found;
  {
    const Away away;
    engine.evaluate(ids, [](size_t, std::span<const float>) {}, [&](const Intermediate& i) {
      const std::string name = i.layer < 0 ? i.name : concat("layers.", i.layer, ".", i.name);
      if (!only.empty() && !only.contains(name)) return;
      Named& named = found.try_emplace(name, Named{{}, i.cols}).first->second;
      for (size_t r = 0; r < i.rows; ++r)
        named.values.insert(named.values.end(), i.data + r * i.stride, i.data + r * i.stride + i.cols);
    });
  }
  py::dict out;
  for (const auto& [name, named] : found) {
    FloatArray array({named.values.size() / named.cols, named.cols});
    std::memcpy(array.mutable_data(), named.values.data(), named.values.size() * sizeof(float));
    out[py::str(name)] = array;
  }
  return out;
}

TensorId tensor_of(const std::string& name) {
  for (size_t i = 0; i < kTensorCount; ++i)
    if (tensor_name(static_cast<TensorId>(i)) == name) return static_cast<TensorId>(i);
  fail(Code::invalid_argument, "no tensor is called '", name, "'");
}

Config config_of(const py::dict& c) {
  return {c["dim"].cast<int32_t>(),        c["hidden_dim"].cast<int32_t>(), c["n_layers"].cast<int32_t>(),
          c["n_heads"].cast<int32_t>(),    c["n_kv_heads"].cast<int32_t>(), c["vocab_size"].cast<int32_t>(),
          c["seq_len"].cast<int32_t>(),    c["tied"].cast<bool>(),          c["norm_eps"].cast<float>(),
          c["rope_theta"].cast<double>()};
}

using CArray = py::array_t<float, py::array::c_style>;

std::shared_ptr<Source> source_of_arrays(const py::dict& config, const std::map<std::string, CArray>& arrays) {
  // Kept as long as the source, and let go of with the GIL, whichever thread is the last to need it.
  std::shared_ptr<const void> keeper(new std::map<std::string, CArray>(arrays), [](const void* kept) {
    const py::gil_scoped_acquire held;
    delete static_cast<const std::map<std::string, CArray>*>(kept);
  });
  TensorArrays found;
  for (const auto& [name, array] : arrays)
    found[static_cast<size_t>(tensor_of(name))] = {array.data(), static_cast<size_t>(array.size())};
  return std::make_shared<Source>(config_of(config), found, std::move(keeper));
}

// One layer of a tensor, (rows, cols) or (cols) of a vector: fp32 as it lies there, or made of its int8 or int4.
py::array weight(const std::shared_ptr<Model>& model, const std::string& name, size_t layer) {
  const Weights& w = model->weights();
  const TensorId id = tensor_of(name);
  if (layer >= tensor_shape(w.config, id).layers) fail(Code::invalid_argument, name, " has no layer ", layer);
  const auto dim = static_cast<py::ssize_t>(w.config.dim);
  // The capsule keeps the model, into whose memory the array looks.
  const auto view = [&](std::vector<py::ssize_t> shape, const float* values) {
    auto* share = new std::shared_ptr<Model>(model);
    const py::capsule keeper(share, [](void* kept) { delete static_cast<std::shared_ptr<Model>*>(kept); });
    py::array_t<float> array(std::move(shape), values, keeper);
    array.attr("setflags")("write"_a = false);
    return py::array(array);
  };
  if (const float* vector = w.vector(id, layer)) return view({dim}, vector);
  const Matrix& matrix = w.matrix(id, layer);
  const auto rows = static_cast<py::ssize_t>(matrix.rows), cols = static_cast<py::ssize_t>(matrix.cols);
  if (matrix.dtype == DType::float32) return view({rows, cols}, matrix.f32);
  FloatArray made({rows, cols});
  for (size_t row = 0; row < matrix.rows; ++row) matrix.row(row, made.mutable_data(static_cast<py::ssize_t>(row)));
  made.attr("setflags")("write"_a = false);
  return made;
}

bool convert(const Source& source, const std::string& target, const std::string& format, size_t group_size,
             const std::function<void(size_t, size_t)>& progress) {
  const Checkpoint& checkpoint = source.checkpoint();
  const size_t written = convert_checkpoint(checkpoint, target, format_of(format), group_size, progress);
  return written != 0 && groups_straddle_rows(checkpoint.config, written);
}

void convert_to_tz(std::shared_ptr<const Source> source, const std::string& target, const std::string& dtype,
                   const std::function<void(size_t, size_t, const char*)>& progress) {
  const auto stage = [&](const char* name) {
    return [&progress, name](size_t done, size_t total) {
      if (progress) progress(done, total, name);
    };
  };
  const Model model(std::move(source), {dtype_of(dtype), 0, "", std::nullopt, stage("packing")});
  write_tz(target, model.weights(), stage("writing"));
}

bool verify(const std::string& path) {
  const MappedFile file(path);
  if (!is_tz(file.bytes())) return false;
  verify_tz(file.bytes(), path);
  return true;
}

std::string_view kind_name(PieceKind kind) {
  switch (kind) {
    case PieceKind::normal: return "normal";
    case PieceKind::byte: return "byte";
    case PieceKind::control: return "control";
    case PieceKind::unknown: return "unknown";
  }
  return "";
}

PieceKind kind_of(const std::string& name) {
  for (PieceKind kind : {PieceKind::normal, PieceKind::byte, PieceKind::control, PieceKind::unknown})
    if (kind_name(kind) == name) return kind;
  fail(Code::invalid_argument, "kind is '", name, "': expected normal, byte, control or unknown");
}

Vocabulary make_vocabulary(const std::vector<std::pair<py::bytes, std::string>>& pieces) {
  std::vector<Piece> list;
  for (const auto& [bytes, kind] : pieces) list.push_back({std::string(bytes), kind_of(kind)});
  return Vocabulary(std::move(list));
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of tinyzh.  Use the classes of the package tinyzh; this module is its inside.";
  m.attr("__version__") = TINYZH_VERSION;
  m.attr("numerics_version") = kNumericsVersion;
  py::register_exception_translator(&translate);

  py::class_<Vocabulary>(m, "Vocabulary", "What each token id adds to the text.")
      .def(py::init(&make_vocabulary), "pieces"_a)
      .def("__len__", &Vocabulary::size)
      .def("pieces", [](const Vocabulary& v) {
        py::list list;
        for (int32_t id = 0; id < v.size(); ++id) list.append(py::make_tuple(py::bytes(v[id].bytes), kind_name(v[id].kind)));
        return list;
      }, "(bytes, kind) of every id.");

  py::class_<BpeTokenizer>(m, "BpeTokenizer", "Byte-pair encoding with a tokenizer.bin of llama2.c.")
      .def(py::init([](const py::bytes& data, int32_t vocab_size, const std::string& name) {
        return BpeTokenizer(bytes_of(data), vocab_size, name);
      }), "data"_a, "vocab_size"_a, "name"_a)
      .def_property_readonly("vocabulary", &BpeTokenizer::vocabulary, py::return_value_policy::reference_internal)
      .def_property_readonly("has_byte_fallback", &BpeTokenizer::has_byte_fallback)
      .def_property_readonly("has_space", &BpeTokenizer::has_space)
      .def("encode", [](const BpeTokenizer& t, const std::string& text, bool bos, bool eos, bool dummy_prefix,
                        bool squeeze_spaces, bool narrow_punctuation) {
        const Away away;
        return t.encode(text, {bos, eos, dummy_prefix, squeeze_spaces, narrow_punctuation});
      }, "text"_a, "bos"_a, "eos"_a, "dummy_prefix"_a, "squeeze_spaces"_a, "narrow_punctuation"_a)
      .def("decode", [](const BpeTokenizer& t, const std::vector<int32_t>& ids) { return py::bytes(t.decode(ids)); }, "ids"_a);

  py::class_<SentencePieceTokenizer>(m, "SentencePieceModel", "Byte-pair encoding with a tokenizer.model of SentencePiece.")
      .def(py::init([](const py::bytes& data, const std::string& name) {
        return SentencePieceTokenizer(bytes_of(data), name);
      }), "data"_a, "name"_a)
      .def("__len__", [](const SentencePieceTokenizer& t) { return t.vocabulary().size(); })
      .def_property_readonly("vocabulary", &SentencePieceTokenizer::vocabulary, py::return_value_policy::reference_internal)
      .def_property_readonly("adds_dummy_prefix", &SentencePieceTokenizer::adds_dummy_prefix)
      .def("encode", [](const SentencePieceTokenizer& t, const std::string& text, std::optional<bool> dummy_prefix) {
        const Away away;
        return t.encode(text, dummy_prefix);
      }, "text"_a, "dummy_prefix"_a);

  py::class_<Source, std::shared_ptr<Source>>(m, "Source", "Where weights come from: a file, bytes or arrays.")
      .def(py::init([](const std::string& path) {
        const Away away;
        return std::make_shared<Source>(path);
      }), "path"_a)
      .def_static("from_bytes", [](const py::bytes& data) {
        const std::span<const std::byte> bytes = bytes_of(data);
        const Away away;
        return std::make_shared<Source>(bytes);
      }, "data"_a)
      .def_static("from_arrays", &source_of_arrays, "config"_a, "arrays"_a,
                  "fp32 (layers, rows, cols) by the names of the file, used in place.")
      .def_property_readonly("checkpoint", [](const Source& s) { return checkpoint_dict(s.checkpoint(), s.bytes()); },
                             "What its header says.");

  py::class_<Model, std::shared_ptr<Model>>(m, "Model", "A checkpoint opened for use.")
      .def(py::init([](std::shared_ptr<Source> source, const std::string& dtype, int threads, const std::string& isa,
                       const std::string& kv_dtype, const std::string& device) {
        ModelOptions options{
            .dtype = {}, .threads = threads, .isa = isa, .kv_type = kv_type_of(kv_dtype), .device = device_of(device)};
        set_dtype(options, dtype);
        const Away away;
        return owned(new Model(std::move(source), options), &destroy);
      }), "source"_a, "dtype"_a, "threads"_a, "isa"_a, "kv_dtype"_a, "device"_a = "cpu")
      .def_property_readonly("checkpoint", [](const Model& model) { return checkpoint_dict(model.checkpoint(), model.source_bytes()); })
      .def("weight", &weight, "name"_a, "layer"_a, "One layer of a tensor as fp32, read-only: in place where it is fp32.")
      .def_property_readonly("dtype", [](const Model& model) { return std::string(model.dtype_name()); })
      .def_property_readonly("device", [](const Model& model) { return std::string(device_name(model.device())); })
      .def_property_readonly("isa", [](const Model& model) { return std::string(model.kernels().name); })
      .def_property_readonly("threads", [](Model& model) { return model.pool().threads(); })
      .def_property_readonly("bytes_per_token", [](const Model& model) { return model.weights().bytes_per_token(); })
      .def_property_readonly("weight_bytes", [](const Model& model) { return model.weights().owned_bytes(); })
      .def_property_readonly("fingerprint", &Model::fingerprint)
      .def_property_readonly("kv_dtype", [](const Model& model) { return kv_type_name(model.kv_layout().type); })
      .def_property_readonly("kv_bytes_per_position", [](const Model& model) {
        return model.kv_layout().block_bytes() / kBlockPositions;
      });

  py::class_<Mailbox, std::shared_ptr<Mailbox>>(m, "Mailbox", "Where requests leave word that there is something new.")
      .def(py::init<>())
      .def("take", &take, "seconds"_a, NoGil(),
           "All keys since the last call, each once; waits for the first.  None: whoever has a key may have news.")
      .def("close", &Mailbox::close, NoGil());

  py::class_<Request, std::shared_ptr<Request>>(m, "Request", "One generation under way.")
      .def("wait", &wait, "from_piece"_a, "seconds"_a, "(new pieces, finish reason or None), after at most `seconds`.")
      .def("tokens", &Request::tokens)
      .def("logprobs", &logprobs, "(token, logprob, [(token, logprob), ...]) of every token.")
      .def_property_readonly("finish_reason", [](const Request& r) { return finish_object(r.finish_reason()); })
      .def("cancel", &Request::cancel, NoGil())
      .def("raise_error", &Request::rethrow_error, "Raises what went wrong, if the finish reason is 'error'.")
      .def("scores", &scores, "(n) float32: log-probability of each token that was to be scored.")
      .def("set_mailbox", &set_mailbox, "mailbox"_a.none(true), "key"_a, "The key is put there when there is something new; None: no more.")
      .def("timing", &timing)
      .def_property_readonly("last_logits_hash", &Request::last_logits_hash);

  py::class_<Engine, std::shared_ptr<Engine>>(m, "Engine", "Serves the requests of one model.")
      .def(py::init([](std::shared_ptr<Model> model, const Vocabulary& vocabulary, size_t queue_limit, size_t streams,
                       size_t kv_bytes) {
        const EngineOptions options{.queue_limit = queue_limit, .streams = streams, .kv_bytes = kv_bytes};
        return owned(new Engine(std::move(model), vocabulary, options), &destroy);
      }), "model"_a, "vocabulary"_a, "queue_limit"_a, "streams"_a, "kv_bytes"_a)
      .def("submit", &submit, "prompt"_a, py::kw_only(), "temperature"_a, "top_p"_a, "top_k"_a, "min_p"_a,
           "repetition_penalty"_a, "presence_penalty"_a, "frequency_penalty"_a, "logit_bias"_a, "logprobs"_a, "seed"_a,
           "max_new_tokens"_a, "min_new_tokens"_a, "end_tokens"_a, "stop"_a, "bad_words"_a, "trim_first_space"_a, "shift"_a,
           "priority"_a, "timeout"_a)
      .def("submit_score", &submit_score, "ids"_a, py::kw_only(), "score_from"_a, "priority"_a, "timeout"_a)
      .def("logits", &logits, "ids"_a, "(T, vocab_size) float32.")
      .def("trace", &trace, "ids"_a, "only"_a = std::set<std::string>(),
           "Every named intermediate, or only these: name -> (T, width) float32.")
      .def("stats", &stats, "What it has done lately.")
      .def_property_readonly("ahead", &Engine::ahead, "Passes that may be begun while one is under way.")
      .def("close", &Engine::close, NoGil());

  py::class_<Batch, std::shared_ptr<Batch>>(m, "Batch", "Several sequences in step, one token each at a time.")
      .def(py::init([](std::shared_ptr<Model> model, size_t streams) {
        const Away away;
        return owned(new Batch(std::move(model), streams), &destroy);
      }), "model"_a, "streams"_a)
      .def("prefill", [](Batch& batch, const std::vector<int32_t>& tokens) {
        const Away away;
        batch.prefill(tokens);
      }, "tokens"_a, "The next tokens of every stream, the same for all.")
      .def("step", &step, "tokens"_a, "One token for each stream: (streams, vocab_size) float32.");

  m.def("save_session", [](const std::string& path, uint64_t fingerprint, const std::vector<int32_t>& ids) {
    save_session(path, fingerprint, ids);
  }, "path"_a, "fingerprint"_a, "ids"_a, "Writes the tokens of a session.");
  m.def("load_session", &load_session, "path"_a, "fingerprint"_a, "Its tokens, if it belongs to this model.");
  m.def("convert", &convert, "source"_a, "target"_a, "format"_a, "group_size"_a, "progress"_a.none(true),
        "Rewrites a checkpoint; True when llama2.c's int8 program cannot read the result correctly.");
  m.def("convert_to_tz", [](std::shared_ptr<Source> source, const std::string& target, const std::string& dtype,
                            const std::function<void(size_t, size_t, const char*)>& progress) {
    const Away away;
    convert_to_tz(std::move(source), target, dtype, progress);
  }, "source"_a, "target"_a, "dtype"_a, "progress"_a.none(true),
     "Writes a checkpoint as the kernels read it, in tinyzh's own container.");
  m.def("verify", [](const std::string& path) {
    const Away away;
    return verify(path);
  }, "path"_a, "Checks every checksum of a tz file; False for a format that has none.");
  m.def("count_tokenizer_entries", [](const py::bytes& data, const std::string& name) {
    return count_tokenizer_entries(bytes_of(data), name);
  }, "data"_a, "name"_a, "Number of pieces in a tokenizer.bin.");
  m.def("what_is", [](const py::bytes& data) {
    const Foreign found = what_is(bytes_of(data));
    return std::pair(found.kind, found.always ? found.remedy : std::string_view{});
  }, "data"_a, "What a file is, by its beginning, and what to do about it whatever was wanted; empty: unknown.");
  m.def("stay_from_now_on", &stay_from_now_on,
        "Calls keep the GIL from now on; False, and no change, while a thread is in one that has let go of it.");
  m.def("forked", &forked, "In a forked child: the threads of the parent are not here.");
  m.def("default_threads", &default_threads, "Physical cores this process may use.");
  m.def("devices", [] {
    std::vector<std::string> names;
    for (Device device : built_devices()) names.emplace_back(device_name(device));
    return names;
  }, "What is built in to compute on.");
  m.def("cuda_build", &cuda_build, "What device cuda was built with; empty: it is not built in.");
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* table : runnable_kernels()) names.emplace_back(table->name);
    return names;
  }, "Kernel sets that this processor runs, best first.");
}

}  // namespace tinyzh
