"""A model under training, tried out by the engine that will run it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..model import Model as Engine
from .binary import write_bin
from .model import Llama

__all__ = ["bits_per_character", "opened", "tell"]


@contextmanager
def opened(model: Llama, tokenizer: Path) -> Iterator[Engine]:
    """The model in the C++ engine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.bin")
        write_bin(model, path)
        with Engine(path, tokenizer=tokenizer) as engine:
            yield engine


def tell(engine: Engine, prompts: Sequence[str], seed: int) -> list[str]:
    """A story for each prompt, at temperature 0.8; one seed tells the same as the model learns."""
    stories = engine.generate_many(prompts, temperature=0.8, top_p=1.0, seed=seed, echo=True)
    return [story.read() for story in stories]


def bits_per_character(engine: Engine, texts: Sequence[str]) -> float:
    """Of all the texts together; each one after BOS, its ending not counted."""
    characters = bits = 0.0
    for text in texts:
        characters += len(text)
        bits += engine.score(text).bits_per_character * len(text)
    return bits / max(characters, 1.0)
