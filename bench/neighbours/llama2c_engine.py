"""llama2.c's own program, which serves one stream and takes a prompt token by token.

LLAMA2C in the environment says where it is: the program, or its checkout, which is then compiled
as its author advises for speed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ..llama2c import theirs
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
        self._files = (
            program(os.environ.get("LLAMA2C", ""), cache),
            random_checkpoint(STORY_93M),
            tokenizer_bin(STORY_93M.vocab_size, cache / "tokenizer.bin"),
        )
        self._threads = threads
        run, model, tokenizer = map(str, self._files)
        self.start = [run, model, "-z", tokenizer, "-n", "1"]

    def generate(self, prompts: list[list[int]], tokens: int) -> float:
        if len(prompts) > 1:
            raise NotImplementedError
        return (len(prompts[0]) - 1 + tokens) / theirs(*self._files, self._threads)
