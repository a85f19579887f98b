"""llama.cpp through llama-cpp-python, from a GGUF file.

Blocks of 32 do not fit the rows of w2 (2,268): with Q8_0 and Q4_0 it stays in fp16, as llama.cpp's
own tools leave such matrices.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .hugging_face import CONFIG, tensors

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
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, c.vocab_size))])
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
        self._path = str(gguf_file(dtype, cache))
        self._model = lib.llama_model_load_from_file(
            self._path.encode(), lib.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError(f"{self._path} cannot be opened")

    def _context(self, streams: int, positions: int) -> Any:
        lib = self._lib
        params = lib.llama_context_default_params()
        params.n_ctx = streams * positions
        params.n_batch = params.n_ubatch = max(256, streams)
        params.n_seq_max = streams
        params.n_threads = params.n_threads_batch = self._threads
        return lib.llama_init_from_model(self._model, params)

    def _step(self, context: Any, batch: Any, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = wanted
        if self._lib.llama_decode(context, batch):
            raise RuntimeError("llama_decode failed")

    def _best(self, context: Any, row: int) -> int:
        logits = self._lib.llama_get_logits_ith(context, row)
        return int(np.ctypeslib.as_array(logits, shape=(CONFIG.vocab_size,)).argmax())

    def decode(self, streams: int, tokens: int) -> float:
        context = self._context(streams, 256)
        batch = self._lib.llama_batch_init(max(256, streams), 0, 1)
        now, start = [1] * streams, 0.0
        for position in range(tokens + 1):
            if position == 1:
                start = time.perf_counter()
            self._step(context, batch, [(t, position, s, True) for s, t in enumerate(now)])
            now = [self._best(context, row) for row in range(streams)]
        seconds = time.perf_counter() - start
        self._lib.llama_batch_free(batch)
        self._lib.llama_free(context)
        return seconds

    def prefill(self, ids: Sequence[int]) -> float:
        context = self._context(1, 512)
        batch = self._lib.llama_batch_init(512, 0, 1)
        last = len(ids) - 1
        start = time.perf_counter()
        self._step(context, batch, [(t, i, 0, i == last) for i, t in enumerate(ids)])
        self._best(context, last)
        seconds = time.perf_counter() - start
        self._lib.llama_batch_free(batch)
        self._lib.llama_free(context)
        return seconds

    def start(self) -> list[str]:
        options = {"n_ctx": CONFIG.seq_len, "n_threads": self._threads, "verbose": False}
        code = (
            f"import llama_cpp; model = llama_cpp.Llama({self._path!r}, **{options}); "
            "next(model.generate([1])); print(flush=True)"
        )
        return [sys.executable, "-c", code]
