// The one list of error codes.  C++ throws Error, Python raises the class of the same name,
// the C header returns the number.  Numbers are never reused.
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

namespace tinyzh {

enum class Code : int {
  ok = 0,
  invalid_argument = 1,   // a parameter out of its range               -> ValueError
  file = 2,               // a file cannot be opened, read or written   -> OSError
  checkpoint = 3,         // not a checkpoint, truncated, inconsistent  -> CheckpointError
  tokenizer = 4,          // missing, corrupt, does not match the model -> TokenizerError
  generation = 5,         // the model's numbers are not numbers        -> GenerationError
  context_full = 6,       // the prompt does not fit                    -> ContextFull
  queue_full = 7,         // too many requests are waiting              -> QueueFull
  backend = 8,            // unknown instruction set, missing device    -> BackendError
  closed = 9,             // the model was closed                       -> GenerationError
  out_of_memory = 10,     //                                            -> MemoryError
  busy = 11,              // a session's last request is not over       -> GenerationError
};

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const noexcept { return code_; }

 private:
  Code code_;
};

// The arguments one after another as text, whatever the process's locale.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  (out << ... << parts);
  return out.str();
}

// Throws an Error whose message is the parts one after another.
template <class... Parts>
[[noreturn]] void fail(Code code, const Parts&... parts) {
  throw Error(code, concat(parts...));
}

}  // namespace tinyzh
