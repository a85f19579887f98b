"""tinyzh.  Every type of weights is made from the fp32 file while it opens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import tinyzh
from tinyzh import _core

from ..shapes import STORY_93M, random_checkpoint

PACKAGE = "tinyzh"
DTYPES = ("float32", "int8", "int4")


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        path = random_checkpoint(STORY_93M)
        options: dict[str, Any] = {"tokenizer": False, "dtype": dtype, "threads": threads}
        self._model = tinyzh.Model(path, **options)
        self._firsts = 1000
        self.bytes_per_token = self._model.memory()["read_per_token"]
        self.start = (
            f"import tinyzh; model = tinyzh.Model({str(path)!r}, **{options}); "
            "model.generate([1], max_new_tokens=1, seed=1).wait()"
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> float:
        if len(prompts) == tokens == 1:  # all of the prompt and the first token in one pass
            self._firsts += 1  # another beginning each time, or the engine would know the prompt
            prompt = [self._firsts, *prompts[0][1:]]
            story = self._model.generate(prompt, max_new_tokens=1, seed=1, temperature=0)
            story.wait()
            assert self._model.stats().reused_tokens == 0
            return story.stats.time_to_first_token or float("nan")
        batch = _core.Batch(self._model._core, len(prompts))
        start = time.perf_counter()
        batch.prefill(prompts[0][:-1])
        now = [prompt[-1] for prompt in prompts]
        for _ in range(tokens):
            now = batch.step(now).argmax(axis=1).tolist()
        return time.perf_counter() - start
