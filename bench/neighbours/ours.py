"""tinyzh."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import tinyzh
from tinyzh import _core

from ..shapes import STORY_93M, random_checkpoint

DTYPES = ("float32", "int8", "int4")


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        path = random_checkpoint(STORY_93M)
        self._model = tinyzh.Model(path, tokenizer=False, dtype=dtype, threads=threads)

    def decode(self, streams: int, tokens: int) -> float:
        batch = _core.Batch(self._model._core, streams)
        now = batch.step([1] * streams).argmax(axis=1).tolist()
        start = time.perf_counter()
        for _ in range(tokens):
            now = batch.step(now).argmax(axis=1).tolist()
        return time.perf_counter() - start

    def prefill(self, ids: Sequence[int]) -> float:
        story = self._model.generate(list(ids), max_new_tokens=1, seed=1)
        story.wait()
        return story.stats.time_to_first_token or float("nan")
