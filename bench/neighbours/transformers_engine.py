"""transformers on PyTorch."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .hugging_face import folder

PACKAGE = "transformers"
DTYPES = ("float32",)


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch, self._path = torch, str(folder(cache))
        self._model = AutoModelForCausalLM.from_pretrained(self._path, dtype=torch.float32).eval()

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
        seconds = time.perf_counter() - start
        assert found.shape[1] == ids.shape[1] + tokens
        return seconds

    def decode(self, streams: int, tokens: int) -> float:
        return self._generate([[1]] * streams, tokens)

    def prefill(self, ids: Sequence[int]) -> float:
        return self._generate([list(ids)], 1)

    def start(self) -> list[str]:
        code = (
            "import torch; from transformers import AutoModelForCausalLM; "
            f"model = AutoModelForCausalLM.from_pretrained({self._path!r}); "
            "model.generate(torch.tensor([[1]]), do_sample=False, max_new_tokens=1); "
            "print(flush=True)"
        )
        return [sys.executable, "-c", code]
