"""Models to convert: real ones, the built-in one, and random ones of awkward shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from checkpoints import Shape
from places import REAL_MODELS, ROOT

BUILTIN = ROOT / "python" / "tinyzh" / "data" / "story.bin"
CHARACTERS = " 从前有一只小兔子，它住在森林里。“”！？天地abcdefgh"
VOCAB = 259 + len(CHARACTERS)

SHAPES = {
    "grouped queries": Shape(48, 100, 2, 6, 2, VOCAB, 256),
    "classifier of its own": Shape(32, 61, 2, 4, 4, VOCAB, 256, tied=False),
    "hidden 2268": Shape(96, 2268, 1, 6, 6, VOCAB, 256),
}
REAL = {"stories260K": "tok512.model", "poem_zh_750k": "poem_zh_tok2048.bin"}
NAMES = [*SHAPES, "built-in", *REAL]


@dataclass(frozen=True)
class Kept:
    """A llama2.c file and its tokenizer."""

    path: Path
    tokenizer: Path


def get(name: str, folder: Path) -> Kept:
    """One of NAMES, written to ``folder`` if it is a random one; skips where a real one is not."""
    if name == "built-in":
        return Kept(BUILTIN, BUILTIN.with_name("story.tokenizer.model"))
    if name in REAL:
        path = REAL_MODELS / f"{name}.bin"
        if not path.exists():
            pytest.skip(f"{path.name} is not in {REAL_MODELS}")
        return Kept(path, REAL_MODELS / REAL[name])
    shape = SHAPES[name]
    tensors = checkpoints.random_tensors(shape, seed=5)
    pieces = checkpoints.byte_pieces(CHARACTERS)
    checkpoints.save(folder / "model.tokenizer.bin", checkpoints.tokenizer_bin(pieces))
    path = checkpoints.save(folder / "model.bin", checkpoints.v0(shape, tensors))
    return Kept(path, folder / "model.tokenizer.bin")


def prompts(vocab_size: int, context: int, count: int = 20) -> list[list[int]]:
    """Token ids without meaning, BOS first, of lengths from 1 to most of the context."""
    random = np.random.default_rng(3)
    longest = min(context, 160)
    lengths = [1, 2, longest, *(int(n) for n in random.integers(3, longest, count - 3))]
    return [[1, *map(int, random.integers(3, vocab_size, n - 1))] for n in lengths]
