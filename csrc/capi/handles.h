// What is behind the handles of tinyzh.h, and how an exception becomes a code.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "capi/tinyzh.h"
#include "engine/engine.h"
#include "engine/mailbox.h"
#include "engine/session.h"
#include "model/model.h"
#include "text/tokenizer.h"

struct tinyzh_model {
  std::shared_ptr<tinyzh::Model> model;
};

struct tinyzh_tokenizer {
  std::shared_ptr<const tinyzh::Tokenizer> tokenizer;
};

struct tinyzh_session {
  tinyzh::Session session;
  std::weak_ptr<tinyzh_engine*> home;  // its engine; gone when that is destroyed
};

// The engine, and what its requests have to tell whoever polls.
struct tinyzh_engine {
  struct Live {
    std::shared_ptr<tinyzh::Engine> engine;  // that of its model: after a swap it stays until its last request is over
    std::shared_ptr<tinyzh::Request> request;
    void* user = nullptr;
    bool token_events = false;
    size_t pieces = 0, samples = 0, scores = 0;  // told so far
  };
  struct Event {
    tinyzh_event event;
    std::string text;
  };

  std::shared_ptr<tinyzh::Engine> engine_of(std::shared_ptr<tinyzh::Model> model) const;
  std::shared_ptr<tinyzh::Engine> current() const {
    const std::scoped_lock lock(mutex);
    return engine;
  }
  void collect();                            // what is new becomes events, until there is one
  bool collect(uint64_t id, Live& request);  // of one; true: it is over.  Nothing is lost when it throws
  std::vector<uint64_t> everyone();          // all that live
  void forget(uint64_t id);

  const std::shared_ptr<tinyzh_engine*> home = std::make_shared<tinyzh_engine*>(this);
  std::shared_ptr<const tinyzh::Tokenizer> tokenizer;  // may be null
  tinyzh::EngineOptions options;
  std::shared_ptr<tinyzh::Mailbox> mailbox = std::make_shared<tinyzh::Mailbox>();

  mutable std::mutex mutex;  // guards what follows; held for moments only
  std::shared_ptr<tinyzh::Engine> engine;  // of the model that new requests are for
  std::vector<std::weak_ptr<tinyzh::Engine>> retired;
  uint64_t last_id = 0;
  std::unordered_map<uint64_t, Live> live;

  // Of the thread that polls.
  std::vector<uint64_t> pending;  // requests that have something to tell, the next one last
  std::deque<Event> events;
  std::string text;  // of the event given last
};

namespace tinyzh {

inline int32_t report(tinyzh_error* error, Code code, const char* message) {
  if (error) {
    error->code = static_cast<int32_t>(code);
    size_t size = std::min(std::strlen(message), sizeof error->message - 1);
    if (message[size] != 0)  // no half characters
      while (size > 0 && (static_cast<unsigned char>(message[size]) & 0xC0) == 0x80) --size;
    std::memcpy(error->message, message, size);
    error->message[size] = 0;
  }
  return static_cast<int32_t>(code);
}

// Runs `f` and makes a code of what it throws.
template <class F>
int32_t guarded(tinyzh_error* error, const F& f) {
  try {
    f();
  } catch (const Error& e) {
    return report(error, e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return report(error, Code::out_of_memory, "the system has no memory left");
  } catch (const std::system_error& e) {
    return report(error, Code::backend, e.what());
  } catch (...) {
    return report(error, Code::generation, "an unexpected error");
  }
  if (error) *error = {};
  return TINYZH_OK;
}

inline void require(bool there, const char* name) {
  if (!there) fail(Code::invalid_argument, name, " is NULL");
}

// A copy of the caller's struct, with the defaults where it is older and shorter.
template <class T>
T complete(const T* given, T defaults) {
  if (!given) return defaults;
  const size_t size = given->struct_size;
  if (size < sizeof(size_t) || size > sizeof(T))
    fail(Code::invalid_argument, "struct_size is ", size, ": expected at most ", sizeof(T),
         "; start from the function ..._default()");
  std::memcpy(static_cast<void*>(&defaults), given, size);
  defaults.struct_size = sizeof(T);
  return defaults;
}

}  // namespace tinyzh
