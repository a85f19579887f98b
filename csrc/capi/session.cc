#include "capi/handles.h"
#include "engine/session_file.h"

using namespace tinyzh;

namespace {

tinyzh_session* made(std::vector<int32_t> tokens, std::weak_ptr<tinyzh_engine*> home) {
  return new tinyzh_session{Session(std::move(tokens)), std::move(home)};
}

}  // namespace

int32_t tinyzh_session_create(tinyzh_engine* engine, tinyzh_session** session, tinyzh_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(session, "session");
    *session = nullptr;
    *session = made({}, engine->home);
  });
}

void tinyzh_session_destroy(tinyzh_session* session) { delete session; }

int32_t tinyzh_session_fork(tinyzh_session* session, tinyzh_session** fork, tinyzh_error* error) {
  return guarded(error, [&] {
    require(session, "session");
    require(fork, "fork");
    *fork = nullptr;
    *fork = made(session->session.finished_tokens(), session->home);
  });
}

int32_t tinyzh_session_tokens(tinyzh_session* session, int32_t* ids, size_t capacity, size_t* count, tinyzh_error* error) {
  return guarded(error, [&] {
    require(session, "session");
    require(ids || capacity == 0, "ids");
    require(count, "count");
    const std::vector<int32_t> tokens = session->session.tokens();
    *count = tokens.size();
    std::copy_n(tokens.begin(), std::min(capacity, tokens.size()), ids);
  });
}

int32_t tinyzh_session_save(tinyzh_session* session, const char* path, tinyzh_error* error) {
  return guarded(error, [&] {
    require(session, "session");
    require(path, "path");
    const auto home = session->home.lock();
    if (!home) fail(Code::closed, "the session's engine is destroyed: save sessions before");
    save_session(path, (*home)->current()->model().fingerprint(), session->session.finished_tokens());
  });
}

int32_t tinyzh_session_load(tinyzh_engine* engine, const char* path, tinyzh_session** session, tinyzh_error* error) {
  return guarded(error, [&] {
    require(engine, "engine");
    require(path, "path");
    require(session, "session");
    *session = nullptr;
    const auto current = engine->current();
    std::vector<int32_t> tokens = load_session(path, current->model().fingerprint());
    current->check_tokens(tokens);
    *session = made(std::move(tokens), engine->home);
  });
}
