/* Where the fields of the header's structs lie:  struct field offset, and  struct - size  for each of them. */
#include <stddef.h>
#include <stdio.h>
#include <tinyzh.h>

#define SIZE(type) printf(#type " - %zu\n", sizeof(type))
#define FIELD(type, field) printf(#type " " #field " %zu\n", offsetof(type, field))

int main(void) {
  SIZE(tinyzh_model_options);
  FIELD(tinyzh_model_options, weights);
  FIELD(tinyzh_model_options, cache);
  FIELD(tinyzh_model_options, threads);
  FIELD(tinyzh_model_options, isa);
  FIELD(tinyzh_model_options, allocator);
  FIELD(tinyzh_model_options, device);
  SIZE(tinyzh_model_info);
  FIELD(tinyzh_model_info, vocab_size);
  FIELD(tinyzh_model_info, context);
  FIELD(tinyzh_model_info, parameters);
  FIELD(tinyzh_model_info, fingerprint);
  SIZE(tinyzh_engine_options);
  FIELD(tinyzh_engine_options, prompt_rows);
  FIELD(tinyzh_engine_options, own_thread);
  FIELD(tinyzh_engine_options, cache_bytes);
  FIELD(tinyzh_engine_options, log);
  FIELD(tinyzh_engine_options, log_user);
  SIZE(tinyzh_bias);
  SIZE(tinyzh_sampling);
  FIELD(tinyzh_sampling, top_k);
  FIELD(tinyzh_sampling, frequency_penalty);
  FIELD(tinyzh_sampling, seed);
  FIELD(tinyzh_sampling, logit_bias);
  FIELD(tinyzh_sampling, logit_bias_count);
  SIZE(tinyzh_request);
  FIELD(tinyzh_request, text_size);
  FIELD(tinyzh_request, ids);
  FIELD(tinyzh_request, session);
  FIELD(tinyzh_request, sampling);
  FIELD(tinyzh_request, max_new_tokens);
  FIELD(tinyzh_request, stop);
  FIELD(tinyzh_request, bad_words);
  FIELD(tinyzh_request, shift);
  FIELD(tinyzh_request, priority);
  FIELD(tinyzh_request, timeout_us);
  FIELD(tinyzh_request, token_events);
  FIELD(tinyzh_request, score_from);
  FIELD(tinyzh_request, user);
  SIZE(tinyzh_event);
  FIELD(tinyzh_event, logprob);
  FIELD(tinyzh_event, code);
  FIELD(tinyzh_event, request);
  FIELD(tinyzh_event, text);
  FIELD(tinyzh_event, size);
  SIZE(tinyzh_percentiles);
  SIZE(tinyzh_stats);
  FIELD(tinyzh_stats, cache_bytes);
  FIELD(tinyzh_stats, tokens_per_second);
  FIELD(tinyzh_stats, first_token);
  SIZE(tinyzh_allocator);
  SIZE(tinyzh_error);
  FIELD(tinyzh_error, message);
  return 0;
}
