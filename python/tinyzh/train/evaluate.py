"""How well a model knows a text, measured by the engine that runs it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, InvalidArgument
from ..model import Model
from .extra import missing_named
from .reading import read_texts
from .tokenizer_files import find_trained

__all__ = ["Measured", "evaluate", "measure"]


@dataclass(frozen=True)
class Measured:
    """Of all stories together; each stands after BOS, and its ending is not counted."""

    stories: int
    characters: int
    tokens: int
    loss: float  #: nats a token
    perplexity: float  #: e to the loss
    bits_per_character: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return (
            f"stories             {self.stories:,}\n"
            f"characters          {self.characters:,}\n"
            f"tokens              {self.tokens:,}\n"
            f"loss                {self.loss:.4f}\n"
            f"perplexity          {self.perplexity:.4f}\n"
            f"bits per character  {self.bits_per_character:.4f}"
        )


def measure(
    model: Model,
    texts: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measured:
    """Scores texts with an open model; ``progress`` is told which one is in hand."""
    nats, characters, tokens = 0.0, 0, 0
    for number, text in enumerate(texts, 1):
        progress(number, len(texts))
        score = model.score(text)
        nats -= score.total
        characters += len(text)
        tokens += len(score.token_ids)
    if not tokens:
        raise InvalidArgument("no text to measure on")
    loss = nats / tokens
    return Measured(
        len(texts), characters, tokens, loss, math.exp(loss), nats / math.log(2) / characters
    )


def evaluate(
    model: str | Path,
    texts: Sequence[str | Path],
    *,
    tokenizer: Path | None = None,
    dtype: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
    **reading: Any,
) -> Measured:
    """Measures a model on the stories of files.

    Args:
        model: whatever Model opens, or a run of `tinyzh train model`: its folder or checkpoint.pt.
        texts: files, folders and globs, as for `tinyzh train corpus`; ``-``: standard input.
        tokenizer: its file or folder; None: found beside the model.
        progress: told the number of the story in hand, and of all.
        reading: ``layout``, ``fields``, ``encoding`` of :func:`tinyzh.train.reading.read_texts`.
    """
    stories = read_texts(texts, **reading)
    if not stories:
        raise InvalidArgument(f"no stories in {', '.join(map(str, texts))}")
    named = find_trained(tokenizer) if tokenizer else None
    with _opened(Path(model), named, dtype) as engine:
        return measure(engine, stories, progress)


@contextmanager
def _opened(path: Path, tokenizer: Path | None, dtype: str) -> Iterator[Model]:
    if path.suffix == ".npz":
        raise CheckpointError(
            f"{path}: weights without the shape of their model; give the run that they are of, or "
            "another export of it"
        )
    if path.suffix != ".pt" and not (path / "checkpoint.pt").exists():
        with Model(path, tokenizer=tokenizer, dtype=dtype) as model:
            yield model
        return
    with missing_named():
        from .checkpoint import Checkpoint
        from .storyteller import opened

    saved = Checkpoint.load(path)
    tokenizer = tokenizer or find_trained(path if path.is_dir() else path.parent)
    with opened(saved.model(), tokenizer, dtype) as model:
        yield model
