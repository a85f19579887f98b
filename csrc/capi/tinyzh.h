/* tinyzh.h: story models inside a program written in C, or in any language that can call C.
 *
 * A model is opened from a file; an engine runs any number of requests of one model together; events say what has
 * come out.  The smallest program:
 *
 *     tinyzh_error error;
 *     tinyzh_model* model;
 *     tinyzh_tokenizer* tokenizer;
 *     tinyzh_engine* engine;
 *     if (tinyzh_model_open("story.bin", NULL, &model, &error) ||
 *         tinyzh_tokenizer_open("story.tokenizer.bin", 0, &tokenizer, &error) ||
 *         tinyzh_engine_create(model, tokenizer, NULL, &engine, &error)) { puts(error.message); return 1; }
 *     tinyzh_request request = tinyzh_request_default();
 *     request.text = "从前";
 *     request.text_size = strlen(request.text);
 *     if (tinyzh_engine_submit(engine, &request, NULL, &error)) { puts(error.message); return 1; }
 *     for (tinyzh_event event; tinyzh_engine_wait(engine, -1);)
 *       while (tinyzh_engine_poll(engine, &event)) {
 *         if (event.type == TINYZH_EVENT_TEXT) fwrite(event.text, 1, event.size, stdout);
 *         if (event.type >= TINYZH_EVENT_FINISHED) goto end;
 *       }
 *
 * Conventions
 *   - Functions that can fail return a tinyzh_code: TINYZH_OK is 0.  The message, which names the value, the limit and
 *     the remedy, goes to the caller's tinyzh_error; NULL if it is not wanted.
 *   - Text is UTF-8 with a size and needs no terminating zero; paths are strings with one.
 *   - Whatever a function reads it copies before it returns; nothing of the caller's is kept but `user` pointers.
 *   - A NULL where a handle is needed is TINYZH_INVALID_ARGUMENT, or nothing happens and 0 is returned.
 *   - Structs that a caller fills begin with struct_size and come from a tinyzh_..._default() function: a program that
 *     was compiled with an older header goes on working.  NULL stands for the defaults.
 *   - No function prints, exits, throws, or changes the state of a process or thread.  There is no global state.
 *   - Threads: functions of different objects may be called at the same time; of the same object where its comment
 *     says so.
 *   - The same request with the same seed gives the same tokens on every machine, whatever else runs.
 */
#ifndef TINYZH_H
#define TINYZH_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define TINYZH_API
#elif defined(__GNUC__)
#define TINYZH_API __attribute__((visibility("default")))
#else
#define TINYZH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- versions and errors ------------------------------------------------------------------------------------- */

/* Raised when a program compiled with the older header would break. */
#define TINYZH_ABI_VERSION 1

TINYZH_API uint32_t tinyzh_abi_version(void);      /* of the library: compare with TINYZH_ABI_VERSION */
TINYZH_API uint32_t tinyzh_numerics_version(void); /* changes whenever any bit of any result can change */
TINYZH_API const char* tinyzh_version(void);       /* "0.1.0" */

typedef enum tinyzh_code {
  TINYZH_OK = 0,
  TINYZH_INVALID_ARGUMENT = 1, /* a parameter out of its range */
  TINYZH_FILE = 2,             /* a file cannot be opened, read or written */
  TINYZH_CHECKPOINT = 3,       /* not a checkpoint, truncated, inconsistent */
  TINYZH_TOKENIZER = 4,        /* missing, corrupt, does not match the model */
  TINYZH_GENERATION = 5,       /* the model's numbers are not numbers */
  TINYZH_CONTEXT_FULL = 6,     /* the prompt does not fit the context or the memory */
  TINYZH_QUEUE_FULL = 7,       /* as many requests wait as queue_limit allows: try again later */
  TINYZH_BACKEND = 8,          /* unknown instruction set */
  TINYZH_CLOSED = 9,
  TINYZH_OUT_OF_MEMORY = 10,
  TINYZH_BUSY = 11             /* the session's last request is not over */
} tinyzh_code;

typedef struct tinyzh_error {
  int32_t code;      /* a tinyzh_code */
  char message[508]; /* UTF-8, zero-terminated, cut if longer */
} tinyzh_error;

/* ---- models -------------------------------------------------------------------------------------------------- */

typedef struct tinyzh_model tinyzh_model;

typedef enum tinyzh_type { TINYZH_AUTO = 0, TINYZH_FLOAT32 = 1, TINYZH_FLOAT16 = 2, TINYZH_INT8 = 3, TINYZH_INT4 = 4,
                           TINYZH_BFLOAT16 = 5 } tinyzh_type;

/* Where large memory comes from: weights, keys and values, working memory; lists and strings come from operator new,
 * and what lies on a GPU from its driver.
 * Both functions are called from any thread, several at a time, and must not throw or call this library. */
typedef struct tinyzh_allocator {
  void* (*allocate)(void* user, size_t size, size_t alignment); /* NULL: there is no memory; alignment is 64 */
  void (*release)(void* user, void* memory, size_t size);       /* of what allocate gave, with the same size */
  void* user;
} tinyzh_allocator;

typedef struct tinyzh_model_options {
  size_t struct_size;
  int32_t weights;  /* a tinyzh_type: AUTO keeps the file's own; FLOAT32, INT8, INT4; on cuda FLOAT16, BFLOAT16 */
  int32_t cache;    /* keys and values: AUTO (FLOAT32 with float32 weights, else FLOAT16), FLOAT32, FLOAT16, INT8 */
  int32_t threads;  /* of one computation, 1 to 256; 0: TINYZH_THREADS, else the physical cores */
  const char* isa;  /* NULL: TINYZH_ISA, else the best that works */
  const tinyzh_allocator* allocator; /* for the model and its engines; copied; NULL: operator new */
  const char* device; /* where its engines compute: "cpu"; "cuda" in a library built with it; NULL: TINYZH_DEVICE, else "cpu" */
} tinyzh_model_options;

typedef struct tinyzh_model_info {
  int32_t dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, context;
  uint64_t parameters;
  uint64_t file_bytes;         /* mapped, shared with other processes; or copied from memory */
  uint64_t weight_bytes;       /* held beside the file */
  uint64_t cache_page_bytes;   /* keys and values of 16 positions */
  uint64_t fingerprint;        /* tells models apart */
  uint64_t reserved[4];
} tinyzh_model_info;

TINYZH_API tinyzh_model_options tinyzh_model_options_default(void);

/* Opens a checkpoint: llama2.c's .bin (v0, v1, v2) or tinyzh's .tz, told apart by content.  A file is mapped and used
 * in place, memory is copied. */
TINYZH_API int32_t tinyzh_model_open(const char* path, const tinyzh_model_options* options, tinyzh_model** model,
                                     tinyzh_error* error);
TINYZH_API int32_t tinyzh_model_open_memory(const void* data, size_t size, const tinyzh_model_options* options,
                                            tinyzh_model** model, tinyzh_error* error);
TINYZH_API void tinyzh_model_close(tinyzh_model* model); /* NULL: nothing */
TINYZH_API tinyzh_model_info tinyzh_model_get_info(const tinyzh_model* model);

/* ---- tokenizers ---------------------------------------------------------------------------------------------- */

/* May be used from any number of threads at the same time. */
typedef struct tinyzh_tokenizer tinyzh_tokenizer;

typedef enum tinyzh_encode_flags {
  TINYZH_ENCODE_BOS = 1,      /* the token for the beginning of a text before it */
  TINYZH_ENCODE_CONTINUE = 2  /* the text follows another one: no space is put in front */
} tinyzh_encode_flags;

/* Opens a tokenizer.bin of llama2.c or a SentencePiece .model (BPE), told apart by content.  vocab_size: how many
 * pieces it must have; 0: as many as it has. */
TINYZH_API int32_t tinyzh_tokenizer_open(const char* path, int32_t vocab_size, tinyzh_tokenizer** tokenizer,
                                         tinyzh_error* error);
TINYZH_API int32_t tinyzh_tokenizer_open_memory(const void* data, size_t size, int32_t vocab_size,
                                                tinyzh_tokenizer** tokenizer, tinyzh_error* error);
TINYZH_API void tinyzh_tokenizer_close(tinyzh_tokenizer* tokenizer);
TINYZH_API int32_t tinyzh_tokenizer_size(const tinyzh_tokenizer* tokenizer); /* number of pieces */

/* Token ids of a text.  Writes at most `capacity` of them and always sets *count to how many there are. */
TINYZH_API int32_t tinyzh_tokenizer_encode(const tinyzh_tokenizer* tokenizer, const char* text, size_t text_size,
                                           uint32_t flags, int32_t* ids, size_t capacity, size_t* count,
                                           tinyzh_error* error);
/* The bytes that a token adds to a text, perhaps only a part of a character; they live as long as the tokenizer. */
TINYZH_API int32_t tinyzh_tokenizer_piece(const tinyzh_tokenizer* tokenizer, int32_t id, const char** bytes,
                                          size_t* size, tinyzh_error* error);

/* ---- engines ------------------------------------------------------------------------------------------------- */

/* Runs the requests of one model together.  A model has one engine at a time.  Two ways to drive it:
 *
 *   a thread of its own    submit and poll from any thread; neither waits for a computation
 *   no thread              tinyzh_engine_step(engine, microseconds) does the work, inside the caller's tick
 */
typedef struct tinyzh_engine tinyzh_engine;

typedef enum tinyzh_log_level { TINYZH_LOG_INFO = 0, TINYZH_LOG_WARNING = 1 } tinyzh_log_level;
/* Called from the thread that does the work; it must not call the engine. */
typedef void tinyzh_log_function(void* user, int32_t level, const char* message);

typedef struct tinyzh_engine_options {
  size_t struct_size;
  uint32_t streams;      /* requests that are computed together, 1 to 256, on cuda to 1024; default 64 */
  uint32_t queue_limit;  /* requests that may wait; default 1024 */
  uint32_t prompt_rows;  /* prompt tokens of a step while others draw; default 64 */
  int32_t own_thread;    /* 1 (default), or 0: the caller calls tinyzh_engine_step */
  uint64_t cache_bytes;  /* memory for keys and values; 0: enough for all streams, at most a quarter of what is free */
  tinyzh_log_function* log; /* NULL: none */
  void* log_user;
} tinyzh_engine_options;

TINYZH_API tinyzh_engine_options tinyzh_engine_options_default(void);

/* tokenizer: NULL for requests of token ids without text.  The engine keeps what it needs: model and tokenizer may be
 * closed before it. */
TINYZH_API int32_t tinyzh_engine_create(tinyzh_model* model, const tinyzh_tokenizer* tokenizer,
                                        const tinyzh_engine_options* options, tinyzh_engine** engine, tinyzh_error* error);
/* Cancels what runs and waits for the step under way, a few milliseconds.  No other call on the engine or its
 * sessions at the same time (a tinyzh_engine_step neither) or later, but tinyzh_session_destroy. */
TINYZH_API void tinyzh_engine_destroy(tinyzh_engine* engine);

/* From now on requests are for this model, which has the same vocabulary size; those that were submitted before end on
 * the old one, whose threads and memory are there until the last event of the last of them was polled.  Sessions go on
 * from their tokens.  Any thread, any time, but not at the same time as tinyzh_engine_step. */
TINYZH_API int32_t tinyzh_model_swap(tinyzh_engine* engine, tinyzh_model* model, tinyzh_error* error);

typedef struct tinyzh_bias {
  int32_t token;
  float bias; /* added to its logit, -100 to 100 */
} tinyzh_bias;

/* How the next token is chosen (docs/sampling.md); in this order: logit_bias, bad_words, min_new_tokens, repetition
 * penalty, presence and frequency penalties, temperature, softmax, top_k, min_p, top_p, one random number. */
typedef struct tinyzh_sampling {
  size_t struct_size;
  float temperature;        /* 0: always the most probable token; default 0.9 */
  float top_p;              /* (0, 1]; default 0.9 */
  int32_t top_k;            /* 0: all */
  float min_p;              /* [0, 1] */
  float repetition_penalty; /* 1: none */
  float presence_penalty, frequency_penalty;
  uint64_t seed;            /* 0 stands for a fixed constant; default 1 */
  const tinyzh_bias* logit_bias;
  size_t logit_bias_count;
} tinyzh_sampling;

TINYZH_API tinyzh_sampling tinyzh_sampling_default(void);

typedef struct tinyzh_session tinyzh_session;

typedef struct tinyzh_request {
  size_t struct_size;
  const char* text;         /* the prompt as UTF-8, or */
  size_t text_size;
  const int32_t* ids;       /* as token ids (BOS included, if it is to be there); or neither: BOS alone */
  size_t id_count;
  tinyzh_session* session;  /* NULL, or: the prompt follows what the session has, and what comes becomes part of it */
  const tinyzh_sampling* sampling; /* NULL: the defaults */
  int64_t max_new_tokens;   /* -1: to the end of the story or of the context; 0: the prompt is computed and kept */
  int64_t min_new_tokens;
  const char* const* stop;  /* strings that end the text and are not part of it */
  size_t stop_count;
  const char* const* bad_words; /* strings that never appear */
  size_t bad_word_count;
  int32_t shift;            /* 1: goes on beyond the context, from its first and last tokens (docs/engine.md) */
  int32_t priority;         /* the higher, the sooner */
  int64_t timeout_us;       /* from now on; negative: none */
  int32_t token_events;     /* 1: TINYZH_EVENT_TOKEN for every token; 2: with its log-probability */
  size_t score_from;        /* not 0: nothing is drawn; TINYZH_EVENT_TOKEN for each token of ids from this one on, with
                               its log-probability */
  void* user;               /* comes back with every event */
} tinyzh_request;

TINYZH_API tinyzh_request tinyzh_request_default(void);

/* Hands a request in and returns at once: sizes and ranges are checked, texts are copied, and encoded later by who does
 * the work; what is found wrong then arrives as TINYZH_EVENT_FAILED.  *id (may be NULL) is never 0 and never comes
 * twice.  Any thread, any time.  TINYZH_QUEUE_FULL when as many wait as may. */
TINYZH_API int32_t tinyzh_engine_submit(tinyzh_engine* engine, const tinyzh_request* request, uint64_t* id,
                                        tinyzh_error* error);
/* The request's last event is soon TINYZH_EVENT_FINISHED with TINYZH_CANCELLED, unless it was over before; unknown ids
 * are nothing.  Any thread, any time. */
TINYZH_API void tinyzh_engine_cancel(tinyzh_engine* engine, uint64_t id);

typedef enum tinyzh_event_type {
  TINYZH_EVENT_TOKEN = 1,    /* token, and logprob if it was asked for */
  TINYZH_EVENT_TEXT = 2,     /* text: whole characters, none empty */
  TINYZH_EVENT_FINISHED = 3, /* the last event of a request: finish */
  TINYZH_EVENT_FAILED = 4    /* the last event of a request: code, and text is the message */
} tinyzh_event_type;

typedef enum tinyzh_finish {
  TINYZH_STOP = 1,      /* the story ended, or a stop string */
  TINYZH_LENGTH = 2,    /* max_new_tokens, or the context is full */
  TINYZH_CANCELLED = 3,
  TINYZH_TIMEOUT = 4
} tinyzh_finish;

typedef struct tinyzh_event {
  int32_t type;      /* a tinyzh_event_type */
  int32_t token;
  float logprob;
  int32_t finish;    /* a tinyzh_finish */
  int32_t code;      /* a tinyzh_code */
  uint64_t request;  /* its id */
  void* user;
  const char* text;  /* not zero-terminated; until the next tinyzh_engine_poll of this engine */
  size_t size;
  uint64_t reserved[4];
} tinyzh_event;

/* The next event: 1; none is there: 0.  Never waits.  Of each request the events come in order; a request whose last
 * event was given is forgotten.  One thread at a time. */
TINYZH_API int32_t tinyzh_engine_poll(tinyzh_engine* engine, tinyzh_event* event);
/* Waits until there is something to poll for (1; perhaps it is no event yet), or for so many microseconds (0); negative: for ever.  Same thread as poll. */
TINYZH_API int32_t tinyzh_engine_wait(tinyzh_engine* engine, int64_t timeout_us);

/* For an engine without a thread: works that long, and a quarter of a millisecond at most beyond it; always does one
 * piece of work, if there is any.  Returns the number of requests that are not over.  One thread at a time. */
TINYZH_API size_t tinyzh_engine_step(tinyzh_engine* engine, uint32_t budget_us);

typedef struct tinyzh_percentiles { double p50, p90, p99; } tinyzh_percentiles; /* seconds */

typedef struct tinyzh_stats {
  uint64_t running, waiting;
  uint64_t cache_bytes, cache_limit_bytes, cache_kept_bytes; /* in use; at most; of those in use: kept for later */
  uint64_t steps, requests, preemptions;
  uint64_t prompt_tokens, reused_tokens, new_tokens;
  double tokens_per_second;
  tinyzh_percentiles step, overhead, first_token; /* a step; all of it but the forward pass; submission to first token */
  uint64_t reserved[8];
} tinyzh_stats;

/* What the engine has done lately with the model it has now, as of the last step.  Any thread, any time. */
TINYZH_API tinyzh_stats tinyzh_engine_get_stats(const tinyzh_engine* engine);

/* ---- sessions ------------------------------------------------------------------------------------------------ */

/* A text that several requests continue: a list of tokens, and nothing else.  What was computed of them stays in the
 * engine's cache as long as there is room, and is computed again when it is needed.  One request at a time:
 * tinyzh_engine_submit returns TINYZH_BUSY until the last one is over.  One thread at a time. */
TINYZH_API int32_t tinyzh_session_create(tinyzh_engine* engine, tinyzh_session** session, tinyzh_error* error);
TINYZH_API void tinyzh_session_destroy(tinyzh_session* session); /* its request goes on; before or after its engine */
/* Another one with the same tokens. */
TINYZH_API int32_t tinyzh_session_fork(tinyzh_session* session, tinyzh_session** fork, tinyzh_error* error);
/* Its tokens so far; writes at most `capacity` of them and always sets *count. */
TINYZH_API int32_t tinyzh_session_tokens(tinyzh_session* session, int32_t* ids, size_t capacity, size_t* count,
                                         tinyzh_error* error);
/* A small file with a checksum; refused by another model. */
TINYZH_API int32_t tinyzh_session_save(tinyzh_session* session, const char* path, tinyzh_error* error);
TINYZH_API int32_t tinyzh_session_load(tinyzh_engine* engine, const char* path, tinyzh_session** session,
                                       tinyzh_error* error);

#ifdef __cplusplus
}
#endif
#endif /* TINYZH_H */
