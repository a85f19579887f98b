"""CTranslate2."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .hugging_face import folder

PACKAGE = "ctranslate2"
DTYPES = ("float32", "int8")


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        import ctranslate2

        self._path = str(cache / f"ct2-{dtype}")
        if not Path(self._path).exists():
            converter = ctranslate2.converters.TransformersConverter(str(folder(cache)))
            converter.convert(self._path, quantization=dtype)
        self._options = {"compute_type": dtype, "inter_threads": 1, "intra_threads": threads}
        self._generator = ctranslate2.Generator(self._path, **self._options)

    def _generate(self, prompts: list[list[str]], tokens: int) -> float:
        start = time.perf_counter()
        results = self._generator.generate_batch(
            prompts,
            max_batch_size=len(prompts),
            beam_size=1,
            sampling_topk=1,
            min_length=tokens,
            max_length=tokens,
            include_prompt_in_result=False,
            end_token=[],
        )
        seconds = time.perf_counter() - start
        assert all(len(result.sequences_ids[0]) == tokens for result in results)
        return seconds

    def decode(self, streams: int, tokens: int) -> float:
        return self._generate([["<s>"]] * streams, tokens)

    def prefill(self, ids: Sequence[int]) -> float:
        return self._generate([["<s>", *(f"w{i}" for i in ids[1:])]], 1)

    def start(self) -> list[str]:
        code = (
            "import ctranslate2; "
            f"model = ctranslate2.Generator({self._path!r}, **{self._options}); "
            "model.generate_batch([['<s>']], max_length=1); print(flush=True)"
        )
        return [sys.executable, "-c", code]
