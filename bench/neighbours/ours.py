"""tinyzh.  Every type of weights is made from the fp32 file while it opens."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tinyzh
from tinyzh import _core

from ..shapes import STORY_93M, random_checkpoint

PACKAGE = "tinyzh"
DTYPES = ("float32", "int8", "int4")


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        self._path = random_checkpoint(STORY_93M)
        self._options = {"tokenizer": False, "dtype": dtype, "threads": threads}
        self._model = tinyzh.Model(self._path, **self._options)
        self.bytes_per_token = self._model.memory()["read_per_token"]

    def decode(self, streams: int, tokens: int) -> float:
        batch = _core.Batch(self._model._core, streams)
        now = [1] * streams
        start = time.perf_counter()
        for _ in range(tokens):
            now = batch.step(now).argmax(axis=1).tolist()
        return time.perf_counter() - start

    def prefill(self, ids: Sequence[int]) -> float:
        story = self._model.generate(list(ids), max_new_tokens=1, seed=1)
        story.wait()
        return story.stats.time_to_first_token or float("nan")

    def start(self) -> list[str]:
        code = (
            f"import tinyzh; model = tinyzh.Model({str(self._path)!r}, **{self._options}); "
            "model.generate([1], max_new_tokens=1, seed=1).wait(); print(flush=True)"
        )
        return [sys.executable, "-c", code]
