-- tinyzh for LuaJIT: story models through the C library.  One file: copy it to your project.
--
--   local tinyzh = require "tinyzh"
--   local engine = tinyzh.engine(tinyzh.model("story.bin"), tinyzh.tokenizer("story.tokenizer.bin"))
--   engine:submit { text = "从前", seed = 7 }
--   while engine:wait() do
--     for event in engine:events() do io.write(event.text or "") end
--   end
--
-- What goes wrong is a Lua error, a table { code = 7, message = "..." } that tostring() shows.  Texts are UTF-8 as Lua's
-- strings are.  Everything is closed by the garbage collector, an engine before its model.  The library is found as
-- ffi.load finds "tinyzh", or at the path in TINYZH_LIBRARY.
local ffi = require "ffi"

ffi.cdef [[
typedef struct { int32_t code; char message[508]; } tinyzh_error;
typedef struct { void* (*allocate)(void*, size_t, size_t); void (*release)(void*, void*, size_t); void* user; } tinyzh_allocator;
typedef struct tinyzh_model tinyzh_model;
typedef struct tinyzh_tokenizer tinyzh_tokenizer;
typedef struct tinyzh_engine tinyzh_engine;
typedef struct tinyzh_session tinyzh_session;
typedef struct {
  size_t struct_size;
  int32_t weights, cache, threads;
  const char* isa;
  const tinyzh_allocator* allocator;
  const char* device;
} tinyzh_model_options;
typedef struct {
  int32_t dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, context;
  uint64_t parameters, file_bytes, weight_bytes, cache_page_bytes, fingerprint, reserved[4];
} tinyzh_model_info;
typedef struct {
  size_t struct_size;
  uint32_t streams, queue_limit, prompt_rows;
  int32_t own_thread;
  uint64_t cache_bytes;
  void (*log)(void*, int32_t, const char*);
  void* log_user;
} tinyzh_engine_options;
typedef struct { int32_t token; float bias; } tinyzh_bias;
typedef struct {
  size_t struct_size;
  float temperature, top_p;
  int32_t top_k;
  float min_p, repetition_penalty, presence_penalty, frequency_penalty;
  uint64_t seed;
  const tinyzh_bias* logit_bias;
  size_t logit_bias_count;
} tinyzh_sampling;
typedef struct {
  size_t struct_size;
  const char* text;
  size_t text_size;
  const int32_t* ids;
  size_t id_count;
  tinyzh_session* session;
  const tinyzh_sampling* sampling;
  int64_t max_new_tokens, min_new_tokens;
  const char* const* stop;
  size_t stop_count;
  const char* const* bad_words;
  size_t bad_word_count;
  int32_t shift, priority;
  int64_t timeout_us;
  int32_t token_events;
  size_t score_from;
  void* user;
} tinyzh_request;
typedef struct {
  int32_t type, token;
  float logprob;
  int32_t finish, code;
  uint64_t request;
  void* user;
  const char* text;
  size_t size;
  uint64_t reserved[4];
} tinyzh_event;
typedef struct { double p50, p90, p99; } tinyzh_percentiles;
typedef struct {
  uint64_t running, waiting, cache_bytes, cache_limit_bytes, cache_kept_bytes, steps, requests, preemptions;
  uint64_t prompt_tokens, reused_tokens, new_tokens;
  double tokens_per_second;
  tinyzh_percentiles step, overhead, first_token;
  uint64_t reserved[8];
} tinyzh_stats;

uint32_t tinyzh_abi_version(void);
const char* tinyzh_version(void);
tinyzh_model_options tinyzh_model_options_default(void);
int32_t tinyzh_model_open(const char*, const tinyzh_model_options*, tinyzh_model**, tinyzh_error*);
int32_t tinyzh_model_open_memory(const void*, size_t, const tinyzh_model_options*, tinyzh_model**, tinyzh_error*);
void tinyzh_model_close(tinyzh_model*);
tinyzh_model_info tinyzh_model_get_info(const tinyzh_model*);
int32_t tinyzh_tokenizer_open(const char*, int32_t, tinyzh_tokenizer**, tinyzh_error*);
void tinyzh_tokenizer_close(tinyzh_tokenizer*);
int32_t tinyzh_tokenizer_encode(const tinyzh_tokenizer*, const char*, size_t, uint32_t, int32_t*, size_t, size_t*, tinyzh_error*);
tinyzh_engine_options tinyzh_engine_options_default(void);
int32_t tinyzh_engine_create(tinyzh_model*, const tinyzh_tokenizer*, const tinyzh_engine_options*, tinyzh_engine**, tinyzh_error*);
void tinyzh_engine_destroy(tinyzh_engine*);
int32_t tinyzh_model_swap(tinyzh_engine*, tinyzh_model*, tinyzh_error*);
tinyzh_sampling tinyzh_sampling_default(void);
tinyzh_request tinyzh_request_default(void);
int32_t tinyzh_engine_submit(tinyzh_engine*, const tinyzh_request*, uint64_t*, tinyzh_error*);
void tinyzh_engine_cancel(tinyzh_engine*, uint64_t);
int32_t tinyzh_engine_poll(tinyzh_engine*, tinyzh_event*);
int32_t tinyzh_engine_wait(tinyzh_engine*, int64_t);
size_t tinyzh_engine_step(tinyzh_engine*, uint32_t);
tinyzh_stats tinyzh_engine_get_stats(const tinyzh_engine*);
int32_t tinyzh_session_create(tinyzh_engine*, tinyzh_session**, tinyzh_error*);
void tinyzh_session_destroy(tinyzh_session*);
int32_t tinyzh_session_fork(tinyzh_session*, tinyzh_session**, tinyzh_error*);
int32_t tinyzh_session_tokens(tinyzh_session*, int32_t*, size_t, size_t*, tinyzh_error*);
int32_t tinyzh_session_save(tinyzh_session*, const char*, tinyzh_error*);
int32_t tinyzh_session_load(tinyzh_engine*, const char*, tinyzh_session**, tinyzh_error*);
]]

local C = ffi.load(os.getenv "TINYZH_LIBRARY" or "tinyzh")
local ABI_VERSION = 1
assert(C.tinyzh_abi_version() == ABI_VERSION, "this file goes with another version of the library")

local Error = { __tostring = function(self) return self.message end }

local function check(code, failure)
  if code ~= 0 then error(setmetatable({ code = code, message = ffi.string(failure.message) }, Error), 3) end
end

-- Calls function(..., handle*, error*) and gives the handle, closed by `close` when it is collected.
local function open(type, close, open_it, ...)
  local handle, failure, arguments = ffi.new(type .. "*[1]"), ffi.new "tinyzh_error", { ... }
  local n = select("#", ...)
  arguments[n + 1], arguments[n + 2] = handle, failure
  check(open_it(unpack(arguments, 1, n + 2)), failure)
  return ffi.gc(handle[0], close)
end

-- Fields of a C struct from a table; an unknown name is an error of Lua's.
local function fill(struct, options, except)
  for name, value in pairs(options or {}) do
    if not (except and except[name]) then struct[name] = value end
  end
  return struct
end

-- The C handle of an engine, or of a session whose engine is open; of another: an error.
local function live(object)
  if not object.handle or object.engine and not object.engine.handle then error("the engine is closed", 3) end
  return object.handle
end

local TYPES = { auto = 0, float32 = 1, float16 = 2, int8 = 3, int4 = 4 }
local EVENTS = { "token", "text", "finished", "failed" }
local FINISHES = { "stop", "length", "cancelled", "timeout" }

local tinyzh = { version = ffi.string(C.tinyzh_version()) }

---- models and tokenizers

local Model = {}
Model.__index = Model

-- options: weights and cache ("float32", "int8" ...), threads, isa, device.
function tinyzh.model(path, options)
  local o = fill(C.tinyzh_model_options_default(), options, { weights = true, cache = true })
  for _, name in ipairs { "weights", "cache" } do
    local type = options and options[name] or "auto"
    o[name] = TYPES[type] or error(name .. " is " .. tostring(type) .. ": expected auto, float32, float16, int8 or int4", 2)
  end
  return setmetatable({ handle = open("tinyzh_model", C.tinyzh_model_close, C.tinyzh_model_open, path, o) }, Model)
end

-- A table: dim, n_layers, vocab_size, context ...
function Model:info()
  local info, fields = C.tinyzh_model_get_info(self.handle), {}
  for _, name in ipairs { "dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "context", "parameters",
                          "file_bytes", "weight_bytes", "cache_page_bytes" } do
    fields[name] = tonumber(info[name])
  end
  return fields
end

local Tokenizer = {}
Tokenizer.__index = Tokenizer

function tinyzh.tokenizer(path)
  return setmetatable({ handle = open("tinyzh_tokenizer", C.tinyzh_tokenizer_close, C.tinyzh_tokenizer_open, path, 0) }, Tokenizer)
end

-- Token ids of a text; `continues`: it follows another one.
function Tokenizer:encode(text, continues)
  local count, failure = ffi.new "size_t[1]", ffi.new "tinyzh_error"
  local capacity = #text + 2  -- a token has a byte at least; a space in front may be one more
  local ids = ffi.new("int32_t[?]", capacity)
  check(C.tinyzh_tokenizer_encode(self.handle, text, #text, continues and 2 or 0, ids, capacity, count, failure), failure)
  local list = {}
  for i = 1, tonumber(count[0]) do list[i] = ids[i - 1] end
  return list
end

---- engines

local Engine, Session = {}, {}
Engine.__index, Session.__index = Engine, Session

-- options: streams, queue_limit, prompt_rows, own_thread (default true), cache_bytes.  The tokenizer may be nil: then
-- prompts are ids.
function tinyzh.engine(model, tokenizer, options)
  local o = fill(C.tinyzh_engine_options_default(), options, { own_thread = true })
  if options and options.own_thread == false then o.own_thread = 0 end
  local handle = open("tinyzh_engine", C.tinyzh_engine_destroy, C.tinyzh_engine_create, model.handle,
                      tokenizer and tokenizer.handle, o)
  return setmetatable({ handle = handle, event = ffi.new "tinyzh_event" }, Engine)
end

local function strings(list)
  return list and ffi.new("const char*[?]", #list, list), list and #list or 0
end

local SAMPLING = { temperature = true, top_p = true, top_k = true, min_p = true, repetition_penalty = true,
                   presence_penalty = true, frequency_penalty = true, seed = true }
local PROMPT = { text = true, ids = true, session = true, stop = true, bad_words = true, logit_bias = true, timeout = true,
                 shift = true }

-- Hands a request in and gives its id.  Of the fields: text or ids (a list), session, what tinyzh_sampling has
-- (temperature, top_p, seed ...), logit_bias ({ [id] = bias }), max_new_tokens, min_new_tokens, stop and bad_words
-- (lists), shift (true), priority, timeout (seconds), token_events, score_from.
function Engine:submit(options)
  local request, sampling = C.tinyzh_request_default(), C.tinyzh_sampling_default()
  for name, value in pairs(options) do
    if SAMPLING[name] then sampling[name] = value
    elseif not PROMPT[name] then request[name] = value end
  end
  local biases, ids  -- kept until the call is over
  if options.logit_bias then
    local list = {}
    for token, bias in pairs(options.logit_bias) do list[#list + 1] = { token, bias } end
    biases = ffi.new("tinyzh_bias[?]", #list, list)
    sampling.logit_bias, sampling.logit_bias_count = biases, #list
  end
  if options.text then request.text, request.text_size = options.text, #options.text end
  if options.ids then
    ids = ffi.new("int32_t[?]", #options.ids, options.ids)
    request.ids, request.id_count = ids, #options.ids
  end
  if options.session then request.session = live(options.session) end
  local stop, stop_count = strings(options.stop)
  local bad_words, bad_word_count = strings(options.bad_words)
  request.stop, request.stop_count, request.bad_words, request.bad_word_count = stop, stop_count, bad_words, bad_word_count
  if options.shift then request.shift = 1 end
  if options.timeout then request.timeout_us = options.timeout * 1e6 end
  request.sampling = sampling
  local id, failure = ffi.new "uint64_t[1]", ffi.new "tinyzh_error"
  check(C.tinyzh_engine_submit(live(self), request, id, failure), failure)
  return tonumber(id[0])
end

function Engine:cancel(id) C.tinyzh_engine_cancel(live(self), id) end

-- The next event or nil; never waits.  { type = "text", request = id, text = ... } | "token", token, logprob |
-- "finished", finish = "stop", "length", "cancelled" or "timeout" | "failed", code, message
function Engine:poll()
  local e = self.event
  if C.tinyzh_engine_poll(live(self), e) == 0 then return nil end
  local event = { type = EVENTS[e.type], request = tonumber(e.request) }
  if event.type == "token" then event.token, event.logprob = e.token, e.logprob
  elseif event.type == "text" then event.text = ffi.string(e.text, e.size)
  elseif event.type == "finished" then event.finish = FINISHES[e.finish]
  else event.code, event.message = e.code, ffi.string(e.text, e.size) end
  return event
end

-- All events that are there: for event in engine:events() do ... end
function Engine:events() return self.poll, self end

-- Waits for something to poll, up to so many seconds (nil: for ever); false: there is nothing.
function Engine:wait(seconds)
  return C.tinyzh_engine_wait(live(self), seconds and seconds * 1e6 or -1) ~= 0
end

-- Of an engine without a thread: works so many microseconds; gives the number of requests that are not over.
function Engine:step(microseconds) return tonumber(C.tinyzh_engine_step(live(self), microseconds)) end

-- New requests are for this model from now on.
function Engine:swap(model)
  local failure = ffi.new "tinyzh_error"
  check(C.tinyzh_model_swap(live(self), model.handle, failure), failure)
end

function Engine:stats()
  local s, fields = C.tinyzh_engine_get_stats(live(self)), {}
  for _, name in ipairs { "running", "waiting", "cache_bytes", "cache_limit_bytes", "cache_kept_bytes", "steps", "requests",
                          "preemptions", "prompt_tokens", "reused_tokens", "new_tokens", "tokens_per_second" } do
    fields[name] = tonumber(s[name])
  end
  for _, name in ipairs { "step", "overhead", "first_token" } do
    fields[name] = { p50 = s[name].p50, p90 = s[name].p90, p99 = s[name].p99 }
  end
  return fields
end

-- Ends everything now; the garbage collector would, some time.
function Engine:close()
  if self.handle then C.tinyzh_engine_destroy(ffi.gc(self.handle, nil)) end
  self.handle = nil
end

---- sessions

local function session(engine, handle) return setmetatable({ engine = engine, handle = handle }, Session) end

function Engine:session()
  return session(self, open("tinyzh_session", C.tinyzh_session_destroy, C.tinyzh_session_create, live(self)))
end

function Engine:load(path)
  return session(self, open("tinyzh_session", C.tinyzh_session_destroy, C.tinyzh_session_load, live(self), path))
end

function Session:fork()
  return session(self.engine, open("tinyzh_session", C.tinyzh_session_destroy, C.tinyzh_session_fork, live(self)))
end

function Session:save(path)
  local failure = ffi.new "tinyzh_error"
  check(C.tinyzh_session_save(live(self), path, failure), failure)
end

-- Token ids so far.
function Session:tokens()
  local count, failure = ffi.new "size_t[1]", ffi.new "tinyzh_error"
  check(C.tinyzh_session_tokens(live(self), nil, 0, count, failure), failure)
  local n = tonumber(count[0])
  local ids, list = ffi.new("int32_t[?]", n), {}
  check(C.tinyzh_session_tokens(live(self), ids, n, count, failure), failure)
  for i = 1, n do list[i] = ids[i - 1] end
  return list
end

return tinyzh
