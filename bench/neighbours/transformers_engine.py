"""transformers on PyTorch."""

from __future__ import annotations

import time
from pathlib import Path

from .hugging_face import folder

PACKAGE = "transformers"
DTYPES = ("float32",)


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        path = str(folder(cache))
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.start = (
            "import torch; from transformers import AutoModelForCausalLM; "
            f"model = AutoModelForCausalLM.from_pretrained({path!r}); "
            "model.generate(torch.tensor([[1]]), do_sample=False, max_new_tokens=1)"
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> float:
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
