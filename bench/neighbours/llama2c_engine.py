"""llama2.c's own program, which serves one stream; its path is in TINYZH_BENCH_LLAMA2C."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..llama2c import TOKENS, theirs
from ..shapes import STORY_93M, random_checkpoint, tokenizer_bin

DTYPES = ("float32",)


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        self._program = Path(os.environ["TINYZH_BENCH_LLAMA2C"])
        self._threads = threads
        self._model = random_checkpoint(STORY_93M)
        self._tokenizer = tokenizer_bin(STORY_93M.vocab_size, cache / "tokenizer.bin")

    def decode(self, streams: int, tokens: int) -> float:
        if streams != 1:
            raise NotImplementedError("one stream only")
        assert tokens <= TOKENS
        return tokens / theirs(self._program, self._model, self._tokenizer, self._threads)

    def prefill(self, ids: Sequence[int]) -> float:
        return self.decode(1, len(ids) // 2) * 2  # it takes a prompt token by token
