"""transformers on PyTorch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from .hugging_face import folder

DTYPES = ("float32",)


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(
            folder(cache), dtype=torch.float32
        ).eval()

    def _generate(self, prompts: list[list[int]], tokens: int) -> float:
        ids = self._torch.tensor(prompts)
        start = time.perf_counter()
        with self._torch.inference_mode():
            found = self._model.generate(
                ids,
                attention_mask=self._torch.ones_like(ids),
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                pad_token_id=0,
            )
        assert found.shape[1] == ids.shape[1] + tokens
        return time.perf_counter() - start

    def decode(self, streams: int, tokens: int) -> float:
        return self._generate([[1]] * streams, tokens)

    def prefill(self, ids: Sequence[int]) -> float:
        return self._generate([list(ids)], 1)
