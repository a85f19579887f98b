#include "io/foreign.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace tinyzh {
namespace {

using namespace std::string_view_literals;

struct Magic {
  size_t offset;
  std::string_view bytes;
  Foreign what;
};

constexpr bool kAlways = true;
constexpr std::string_view kExport = "make a .bin from the original weights with llama2.c's export.py";
constexpr std::string_view kOriginal = "open the Hugging Face folder that it was made from";
constexpr std::string_view kGiveModel = "give the model's file, or its folder";

constexpr Foreign kLfs = {"a Git LFS pointer, which stands for a file that is not here yet",
                          "run \"git lfs pull\" in its repository, or download the file itself", kAlways};
constexpr Foreign kGguf = {"a GGUF model of llama.cpp",
                           "the Python package opens it from its path, and its \"tinyzh convert\" makes a .tz or .bin "
                           "of it"};
constexpr Foreign kGgml = {"an old GGML model of llama.cpp, which nothing reads any more", "convert the original weights"};
constexpr Foreign kSafetensors = {"a safetensors file",
                                  "the Python package opens the folder that it belongs to, and its \"tinyzh convert\" "
                                  "makes a .tz or .bin of it"};
constexpr Foreign kPickle = {"a pickle of Python objects, perhaps a PyTorch model",
                             "save it with transformers' save_pretrained, or make a .bin from it with llama2.c's export.py "
                             "(--checkpoint)"};
constexpr Foreign kZip = {"a zip archive, perhaps a PyTorch .pt",
                          "unpack it, or make a .bin from the model with llama2.c's export.py (--checkpoint)"};
constexpr Foreign kCompressed = {"a compressed file", "decompress it first", kAlways};
constexpr Foreign kTar = {"a tar archive", "unpack it and give the file inside", kAlways};
constexpr Foreign kTokenizer = {"a tokenizer", "give the model's .bin here and this file as its tokenizer"};
constexpr Foreign kPicture = {"a picture", kGiveModel};
constexpr Foreign kSound = {"a sound or film", kGiveModel};
constexpr Foreign kProgram = {"a program or library", kGiveModel};
constexpr Foreign kDatabase = {"a table or database", kGiveModel};
constexpr Foreign kZeros = {"nothing but zero bytes, as a download leaves them that broke off", "download it again", kAlways};
constexpr Foreign kPage = {"an HTML or XML page, as a server sends it instead of a file",
                           "download the file itself (on a model hub the link with \"resolve\", not \"blob\")", kAlways};
constexpr Foreign kJson = {"a JSON file, perhaps a model's config or a server's error", kGiveModel};
constexpr Foreign kText = {"plain text", kGiveModel};

constexpr Magic kMagics[] = {
    {0, "version https://git-lfs"sv, kLfs},
    {0, "GGUF"sv, kGguf},
    {0, "lmgg"sv, kGgml},  // "ggml" and its successors "ggmf", "ggjt", "ggla", as little-endian numbers
    {0, "fmgg"sv, kGgml},
    {0, "tjgg"sv, kGgml},
    {0, "algg"sv, kGgml},
    {0, "ak42"sv, {"a llama2.c checkpoint in big-endian order", "export it again on a little-endian machine"}},
    {0, "tzsess"sv, {"a session that tinyzh saved", "open the model that told it, and load this with tinyzh.Session.load"}},
    {0, "PK\3\4"sv, kZip},
    {0, "PK\5\6"sv, kZip},
    {0, "\x1f\x8b\x08"sv, kCompressed},      // gzip
    {0, "BZh"sv, kCompressed},               // bzip2
    {0, "\xfd" "7zXZ\0"sv, kCompressed},     // xz
    {0, "\x28\xb5\x2f\xfd"sv, kCompressed},  // zstd
    {0, "7z\xbc\xaf\x27\x1c"sv, kCompressed},
    {0, "Rar!\x1a\7"sv, kCompressed},
    {0, "\x93NUMPY"sv,
     {"a NumPy array (.npy)", "a model is one .bin with a header, as llama2.c's export.py makes it"}},
    {0, "\x89HDF\r\n\x1a\n"sv, {"an HDF5 file", kExport}},
    {4, "TFL3"sv, {"a TensorFlow Lite model", kExport}},
    {257, "ustar"sv, kTar},
    {0, "\x89PNG\r\n\x1a\n"sv, kPicture},
    {0, "\xff\xd8\xff"sv, kPicture},  // JPEG
    {0, "GIF8"sv, kPicture},
    {8, "WEBP"sv, kPicture},
    {0, "ID3"sv, kSound},  // MP3
    {0, "OggS"sv, kSound},
    {0, "fLaC"sv, kSound},
    {8, "WAVE"sv, kSound},
    {4, "ftyp"sv, kSound},  // MP4
    {0, "%PDF-"sv, {"a PDF document", kGiveModel}},
    {0, "\x7f" "ELF"sv, kProgram},
    {0, "MZ"sv, kProgram},
    {0, "\xcf\xfa\xed\xfe"sv, kProgram},  // Mach-O
    {0, "SQLite format 3\0"sv, kDatabase},
    {0, "PAR1"sv, kDatabase},  // Parquet
    {0, "ARROW1"sv, kDatabase},
};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::string_view skip_bom_and_space(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf"sv)) text.remove_prefix(3);
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

bool is_page(std::string_view text) {
  std::string start(text.substr(0, 16));
  for (char& c : start) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  constexpr std::string_view kStarts[] = {"<!doctype"sv, "<html"sv, "<head"sv, "<body"sv,
                                          "<?xml"sv,     "<!--"sv,  "<error"sv};
  return std::ranges::any_of(kStarts, [&](std::string_view s) { return start.starts_with(s); });
}

// Printable ASCII and what has the form of UTF-8, in the first kilobyte.
bool is_text(std::string_view bytes) {
  bytes = bytes.substr(0, 1024);
  size_t continuation = 0;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (continuation > 0) {
      if (byte >> 6 != 2) return false;
      --continuation;
    } else if (byte >= 0x80) {
      if (byte < 0xc2 || byte > 0xf4) return false;
      continuation = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : 1;
    } else if (byte == 0x7f || (byte < 0x20 && !is_space(c))) {
      return false;
    }
  }
  return !bytes.empty();
}

// An object or an array, and not the "[section]" of another format.
bool is_json(std::string_view text) {
  if (!text.starts_with('{') && !text.starts_with('[')) return false;
  const std::string_view followers = text.front() == '{' ? "\"}"sv : "\"{[]-0123456789"sv;
  const std::string_view rest = skip_bom_and_space(text.substr(1));
  return !rest.empty() && followers.find(rest.front()) != std::string_view::npos;
}

// Protocol 2 or later, and then one of the few instructions that a pickle begins with.
bool is_pickle(std::string_view bytes) {
  if (bytes.size() < 3 || bytes[0] != '\x80' || bytes[1] < 2 || bytes[1] > 5) return false;
  return (bytes[1] >= 4 ? "\x95"sv : "}](cX\x8aKGNU"sv).find(bytes[2]) != std::string_view::npos;
}

// The length of a JSON header in 8 bytes, and then that header.
bool is_safetensors(std::string_view bytes) {
  if (bytes.size() < 10 || bytes.substr(8, 2) != "{\""sv) return false;
  uint64_t length;
  std::memcpy(&length, bytes.data(), sizeof length);
  return length >= 2 && length < 1u << 30;
}

// A protocol buffer whose field 1 is a piece whose field 1 is its text, and then comes its score.
bool is_sentencepiece(std::string_view bytes) {
  if (bytes.size() < 9 || bytes[0] != '\x0a' || bytes[2] != '\x0a') return false;
  const auto piece = static_cast<uint8_t>(bytes[1]), text = static_cast<uint8_t>(bytes[3]);
  return piece < 0x80 && piece >= text + 2 + 5 && bytes.size() > 4u + text && bytes[4u + text] == '\x15';
}

// A protocol buffer that begins with the version of the format, a small number, and then the name of the program.
bool is_onnx(std::string_view bytes) {
  return bytes.size() > 4 && bytes[0] == '\x08' && bytes[1] > 0 && bytes[1] < 32 && bytes[2] == '\x12' &&
         bytes[3] > 0 && bytes[4] >= 'A' && bytes[4] <= 'z';
}

// The version of the format, the length of a name, and the name of what was converted.
bool is_ctranslate2(std::string_view bytes) {
  return bytes.size() > 17 && bytes.substr(1, 3) == "\0\0\0"sv && bytes.substr(6).starts_with("Transformer"sv);
}

// The longest piece's length, then pieces: score, length, text.  A few that fit together are enough.
bool is_tokenizer_bin(std::string_view bytes) {
  constexpr uint32_t kLongest = 4096, kPieces = 8;
  const auto number = [&bytes] {
    uint32_t value;
    std::memcpy(&value, bytes.data(), sizeof value);
    bytes.remove_prefix(sizeof value);
    return value;
  };
  if (bytes.size() < 4) return false;
  const uint32_t longest = number();
  if (longest == 0 || longest > kLongest) return false;
  for (uint32_t piece = 0; piece < kPieces; ++piece) {
    if (bytes.empty()) return piece >= 3;
    if (bytes.size() < 8) return false;
    const auto score = std::bit_cast<float>(number());
    const uint32_t length = number();
    if (!std::isfinite(score) || length == 0 || length > longest || length > bytes.size()) return false;
    if (bytes.substr(0, length).find('\0') != std::string_view::npos) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

// A mapping whose first name is text, as Flax saves its weights.
bool is_msgpack(std::string_view bytes) {
  if (bytes.size() < 3) return false;
  const auto map = static_cast<uint8_t>(bytes[0]), name = static_cast<uint8_t>(bytes[1]);
  const size_t length = name & 0x1f;
  return map > 0x80 && map <= 0x8f && name >> 5 == 5 && length > 1 && bytes.size() > 2 + length &&
         std::ranges::all_of(bytes.substr(2, length), [](char c) { return c >= ' ' && c <= '~'; });
}

}  // namespace

Foreign what_is(std::span<const std::byte> all) {
  const std::string_view bytes(reinterpret_cast<const char*>(all.data()), all.size());
  for (const Magic& magic : kMagics) {
    if (bytes.size() >= magic.offset && bytes.substr(magic.offset).starts_with(magic.bytes)) return magic.what;
  }
  if (is_safetensors(bytes)) return kSafetensors;
  if (is_sentencepiece(bytes)) return kTokenizer;
  if (is_tokenizer_bin(bytes)) return kTokenizer;
  if (is_onnx(bytes)) return {"an ONNX model", kOriginal};
  if (is_ctranslate2(bytes)) return {"a CTranslate2 model", kOriginal};
  if (is_pickle(bytes)) return kPickle;
  if (is_msgpack(bytes)) return {"Flax weights (msgpack)", "save the model with transformers' save_pretrained for PyTorch"};
  if (bytes.size() >= 28 && bytes.substr(0, 4096).find_first_not_of('\0') == std::string_view::npos) return kZeros;
  const std::string_view text = skip_bom_and_space(bytes);
  if (is_page(text)) return kPage;
  if (!is_text(text)) return {};
  return is_json(text) ? kJson : kText;
}

std::string describe_foreign(std::span<const std::byte> bytes) {
  const Foreign found = what_is(bytes);
  if (found.kind.empty()) return {};
  return std::string(found.kind) + "; " + std::string(found.remedy);
}

}  // namespace tinyzh
