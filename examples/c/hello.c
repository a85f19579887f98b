/* Tells one story:  hello MODEL TOKENIZER [PROMPT] */
#include <stdio.h>
#include <string.h>
#include <tinyzh.h>

int main(int argc, char** argv) {
  if (argc < 3) return fprintf(stderr, "usage: hello MODEL TOKENIZER [PROMPT]\n"), 2;
  tinyzh_error error;
  tinyzh_model* model = NULL;
  tinyzh_tokenizer* tokenizer = NULL;
  tinyzh_engine* engine = NULL;
  tinyzh_request request = tinyzh_request_default();
  request.text = argc > 3 ? argv[3] : "从前";
  request.text_size = strlen(request.text);
  int over = 0;
  if (tinyzh_model_open(argv[1], NULL, &model, &error) || tinyzh_tokenizer_open(argv[2], 0, &tokenizer, &error) ||
      tinyzh_engine_create(model, tokenizer, NULL, &engine, &error) ||
      tinyzh_engine_submit(engine, &request, NULL, &error))
    over = fprintf(stderr, "%s\n", error.message);
  else
    fputs(request.text, stdout);
  while (!over && tinyzh_engine_wait(engine, -1))
    for (tinyzh_event event; !over && tinyzh_engine_poll(engine, &event);) {
      if (event.type == TINYZH_EVENT_TEXT) fwrite(event.text, 1, event.size, stdout);
      over = event.type >= TINYZH_EVENT_FINISHED;
    }
  if (error.code == TINYZH_OK) puts("");
  if (engine) tinyzh_engine_destroy(engine);
  tinyzh_tokenizer_close(tokenizer);
  tinyzh_model_close(model);
  return error.code != TINYZH_OK;
}
