"""llama.cpp through llama-cpp-python, from a GGUF file.

Blocks of 32 do not fit the rows of w2 (2,268): with Q8_0 and Q4_0 it stays in fp16, as llama.cpp's
own tools leave such matrices.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any

import numpy as np

from .hugging_face import CONFIG, WORDS, tensors

PACKAGE = "llama-cpp-python"
DTYPES = ("float32", "float16", "q8_0", "q4_0")


def gguf_file(dtype: str, cache: Path) -> Path:
    path = cache / f"{dtype}.gguf"
    if path.exists():
        return path
    import gguf

    kinds = gguf.GGMLQuantizationType
    kind = {"float32": kinds.F32, "float16": kinds.F16, "q8_0": kinds.Q8_0, "q4_0": kinds.Q4_0}[
        dtype
    ]
    c = CONFIG
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(c.seq_len)
    writer.add_embedding_length(c.dim)
    writer.add_block_count(c.n_layers)
    writer.add_feed_forward_length(c.hidden_dim)
    writer.add_head_count(c.n_heads)
    writer.add_head_count_kv(c.n_kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(c.head_size)
    writer.add_vocab_size(c.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(WORDS)
    writer.add_token_scores([-float(i) for i in range(c.vocab_size)])
    writer.add_token_types([2, 3, 3, *[1] * (c.vocab_size - 3)])

    def add(name: str, value: np.ndarray) -> None:
        use = kinds.F32 if value.ndim == 1 else kind
        if use in (kinds.Q8_0, kinds.Q4_0) and value.shape[1] % 32:
            use = kinds.F16
        if use == kinds.F32:
            writer.add_tensor(name, value)
        elif use == kinds.F16:
            writer.add_tensor(name, value.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(value, use), raw_dtype=use)

    ours = tensors()
    add("token_embd.weight", ours["tok_emb"])
    add("output_norm.weight", ours["rms_final"])
    names = {
        "rms_att": "attn_norm",
        "wq": "attn_q",
        "wk": "attn_k",
        "wv": "attn_v",
        "wo": "attn_output",
        "rms_ffn": "ffn_norm",
        "w1": "ffn_gate",
        "w2": "ffn_down",
        "w3": "ffn_up",
    }
    for layer in range(c.n_layers):
        for name, theirs in names.items():
            add(f"blk.{layer}.{theirs}.weight", ours[name][layer])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        import llama_cpp

        self._lib = lib = llama_cpp
        self._quiet = lib.llama_log_callback(lambda level, text, data: None)
        lib.llama_log_set(self._quiet, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self._threads = threads
        path = str(gguf_file(dtype, cache))
        self._model = lib.llama_model_load_from_file(
            path.encode(), lib.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError(f"{path} cannot be opened")
        options = {"n_ctx": CONFIG.seq_len, "n_threads": threads, "verbose": False}
        self.start = (
            f"import llama_cpp; model = llama_cpp.Llama({path!r}, **{options}); "
            "next(model.generate([1]))"
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> float:
        lib, streams, length = self._lib, len(prompts), len(prompts[0])
        params = lib.llama_context_default_params()
        params.n_ctx = streams * (length + tokens)
        params.n_batch = params.n_ubatch = streams * length
        params.n_seq_max = streams
        params.n_threads = params.n_threads_batch = self._threads
        context = lib.llama_init_from_model(self._model, params)
        batch = lib.llama_batch_init(streams * length, 0, 1)
        start = time.perf_counter()
        best = self._run(context, batch, prompts, 0)
        for step in range(1, tokens):
            now = [[token] for token in best]
            best = self._run(context, batch, now, length + step - 1)
        seconds = time.perf_counter() - start
        lib.llama_batch_free(batch)
        lib.llama_free(context)
        return seconds

    def _run(self, context: Any, batch: Any, new: list[list[int]], position: int) -> list[int]:
        """One pass over the new tokens of every sequence; the likeliest one after each."""
        row, last = 0, []
        for sequence, ids in enumerate(new):
            for i, token in enumerate(ids):
                batch.token[row], batch.pos[row] = token, position + i
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
                batch.logits[row] = i == len(ids) - 1
                row += 1
            last.append(row - 1)
        batch.n_tokens = row
        if self._lib.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")
        shape = (CONFIG.vocab_size,)
        logits = (self._lib.llama_get_logits_ith(context, row) for row in last)
        return [int(np.ctypeslib.as_array(each, shape=shape).argmax()) for each in logits]
