"""Models of random weights, small enough to write for a test, and one that says what it is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import checkpoints
import numpy as np
import tinyzh
from checkpoints import Shape

#: The characters of the small model's vocabulary, behind 259 ids for <unk>, BOS, EOS and the bytes.
CHARACTERS = " 从前有一只小兔子，它住在森林里。“”！？天地abcdefgh"
TINY = Shape(32, 61, 2, 4, 2, 259 + len(CHARACTERS), 128, tied=False)
#: Slow enough for something to happen while it runs: some seconds for its whole context.
SLOW = Shape(256, 700, 4, 8, 8, 259 + len(CHARACTERS), 4096, tied=False)


#: Token ids -> a model that says them.
Teller = Callable[[Sequence[int]], tinyzh.Model]


def byte_ids(data: bytes) -> list[int]:
    """The byte tokens of the small vocabulary."""
    return [3 + byte for byte in data]


def char_ids(text: str) -> list[int]:
    """Its character tokens."""
    return [259 + CHARACTERS.index(c) for c in text]


def write_model(folder: Path, shape: Shape, seed: int = 7) -> Path:
    """A checkpoint with random weights, and its tokenizer beside it."""
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape, seed))
    pieces = checkpoints.byte_pieces(CHARACTERS)
    checkpoints.save(folder / "tokenizer.bin", checkpoints.tokenizer_bin(pieces))
    return checkpoints.save(folder / "model.bin", data)


def settled(model: tinyzh.Model) -> tinyzh.EngineStats:
    """Its numbers once the step is over that ended the last generation."""
    while model.stats().running:
        time.sleep(0.001)
    return model.stats()


def scripted(tokenizer: tinyzh.Tokenizer, ids: Sequence[int]) -> tinyzh.Model:
    """A model that says exactly these tokens after BOS, and then EOS.

    Its layers add nothing; token i is the unit vector i, and the classifier's row of its successor
    answers to that vector.  So no token may come twice.
    """
    chain = [1, *ids, 2]
    assert len(set(chain)) == len(chain), "a token has one successor"
    size = TINY.vocab_size
    shape = Shape(size, 1, 1, 1, 1, size, 128, tied=False)
    tensors = {name: np.zeros(s, np.float32) for name, s in shape.tensors().items()}
    tensors["rms_final"][:] = 1
    tensors["tok_emb"] = np.eye(size, dtype=np.float32)
    tensors["wcls"][chain[1:], chain[:-1]] = 1
    return tinyzh.Model(checkpoints.v0(shape, tensors), tokenizer=tokenizer)
