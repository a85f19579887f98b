"""A model under training, tried out by the engine that will run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..model import Model as Engine
from .binary import stacked
from .model import Llama

__all__ = ["opened", "tell"]


@contextmanager
def opened(model: Llama, tokenizer: Path, dtype: str = "auto") -> Iterator[Engine]:
    """The model in the C++ engine, which may use its weights in place: they must not change."""
    arrays = stacked(model)
    with Engine.from_arrays(model.config, arrays, tokenizer=tokenizer, dtype=dtype) as engine:
        yield engine


def tell(engine: Engine, prompts: Sequence[str], seed: int) -> list[str]:
    """A story for each prompt, at temperature 0.8; one seed tells the same as the model learns."""
    stories = engine.generate_many(prompts, temperature=0.8, top_p=1.0, seed=seed, echo=True)
    return [story.read() for story in stories]
