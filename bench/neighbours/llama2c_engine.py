"""llama2.c's own program, which serves one stream and takes a prompt token by token.

LLAMA2C in the environment says where it is: the program, or its checkout, which is then compiled
as its author advises for speed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..llama2c import TOKENS, theirs
from ..shapes import STORY_93M, random_checkpoint, tokenizer_bin

PACKAGE = "llama2.c"
DTYPES = ("float32",)


def program(given: str, cache: Path) -> Path:
    if not given:
        raise FileNotFoundError("say where it is with --llama2c")
    path = Path(given).resolve()
    if not path.is_dir():
        return path
    made = cache.resolve() / "llama2c-run"
    flags = ["-Ofast", "-fopenmp", "-march=native"]
    subprocess.run(["gcc", *flags, str(path / "run.c"), "-lm", "-o", str(made)], check=True)
    return made


class Engine:
    def __init__(self, dtype: str, threads: int, cache: Path) -> None:
        self._program = program(os.environ.get("LLAMA2C", ""), cache)
        self._threads = threads
        self._model = random_checkpoint(STORY_93M)
        self._tokenizer = tokenizer_bin(STORY_93M.vocab_size, cache / "tokenizer.bin")

    def decode(self, streams: int, tokens: int) -> float:
        if streams != 1:
            raise NotImplementedError
        assert tokens <= TOKENS
        return tokens / theirs(self._program, self._model, self._tokenizer, self._threads)

    def prefill(self, ids: Sequence[int]) -> float:
        return self.decode(1, 1) * len(ids)

    def start(self) -> list[str]:
        files = [str(self._program), str(self._model), "-z", str(self._tokenizer)]
        return [*files, "-n", "1"]
