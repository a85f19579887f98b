"""CTranslate2."""

from __future__ import annotations

import time
from pathlib import Path

from .hugging_face import WORDS, folder

PACKAGE = "ctranslate2"
DTYPES = ("float32", "int8")


def model_folder(dtype: str, cache: Path) -> str:
    """The random checkpoint in CTranslate2's format, converted once."""
    import ctranslate2

    path = cache / f"ct2-{dtype}"
    if not path.exists():
        converter = ctranslate2.converters.TransformersConverter(str(folder(cache)))
        converter.convert(str(path), quantization=dtype)
    return str(path)


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        import ctranslate2

        path = model_folder(dtype, cache)
        options = {"compute_type": dtype, "inter_threads": 1, "intra_threads": threads}
        self._generator = ctranslate2.Generator(path, **options)
        self.start = (
            f"import ctranslate2; model = ctranslate2.Generator({path!r}, **{options}); "
            "model.generate_batch([['<s>']], max_length=1)"
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> float:
        words = [[WORDS[token] for token in prompt] for prompt in prompts]
        start = time.perf_counter()
        results = self._generator.generate_batch(
            words,
            max_batch_size=len(words),
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
