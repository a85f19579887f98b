"""The state of a training run in one file: written whole or not at all."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import replacing
from ..errors import FileMissing, TinyzhError
from .config import Run
from .device import first_words
from .errors import TrainingError
from .model import Llama

__all__ = ["NAME", "Checkpoint"]

NAME = "checkpoint.pt"
_VERSION = 2
_FIRST = 1  # without the fields behind ``recent``


@dataclass
class Checkpoint:
    """Everything that a run needs to go on as if nothing had happened."""

    run: Run
    step: int  #: steps done
    trained: float  #: seconds spent in them
    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None = None  #: of the weights, where the run keeps one
    optimizer: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)  #: of the last evaluation
    recent: list[float] = field(default_factory=list)  #: losses of steps not yet in the log
    tokens: int = 0  #: targets and inputs of all steps
    due: bool = False  #: these weights are still to be evaluated
    texts: list[str] = field(default_factory=list)  #: held-out stories that it is measured on
    resolved: dict[str, Any] = field(default_factory=dict)  #: settings that were ``auto``
    mistakes: list[list[Any]] = field(default_factory=list)  #: of the stories that it told
    faulty: dict[str, float] = field(default_factory=dict)  #: share of them, not yet in the log
    kept: dict[str, Tensor] | None = None  #: the weights that it keeps to on the text of --keep
    before: dict[str, float] = field(default_factory=dict)  #: of the run it began with, in numbers

    def save(self, path: Path) -> None:
        """Replaces the file."""
        state = {k: v for k, v in vars(self).items() if k != "run"}
        with replacing(path) as part, part.open("wb") as file:
            try:
                torch.save({"version": _VERSION, "run": self.run.as_dict(), **state}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # what the file said, a full disk say
                    raise error.__context__ from None
                raise

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads one; a folder means the one in it. Nothing but tensors and numbers is unpacked."""
        path = path / NAME if path.is_dir() else path
        if not path.exists():
            raise FileMissing(f"{path}: no such file; `tinyzh train model` makes one")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            version = state.pop("version")
            if not _FIRST <= version <= _VERSION:
                raise TrainingError(
                    f"{path}: checkpoint of version {version}, expected {_FIRST} to {_VERSION}"
                )
            run = Run.from_dict(state.pop("run"), str(path))
            if version == _FIRST:
                state["tokens"] = state["step"] * run.training.batch * run.training.length
            return cls(run=run, **state)
        except TinyzhError:
            raise
        except (
            pickle.UnpicklingError,
            AttributeError,
            EOFError,
            LookupError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise TrainingError(
                f"{path}: not a checkpoint of `tinyzh train`, or not a whole one: "
                f"{first_words(error)}"
            ) from None

    @classmethod
    def begun(cls, folder: Path, resume: bool) -> Checkpoint | None:
        """What to go on from in a run's folder; None: nothing, it begins.

        Raises:
            TrainingError: there is a run and it is not to be resumed, or the other way round.
        """
        path = folder / NAME
        if resume and not path.exists():
            raise TrainingError(
                f"{path}: no such file, so nothing to --resume: leave that out to begin a run, or "
                "give the folder of another with --out"
            )
        if path.exists() and not resume:
            raise TrainingError(
                f"{path}: there is a run already: --resume goes on with it, "
                "or give another folder with --out"
            )
        return cls.load(path) if resume else None

    def aim(self) -> Llama:
        """What a run that goes on from here keeps to: what this one does, or what it has become."""
        if self.kept is None:
            return self.model()
        model = Llama(self.run.model)
        model.load_state_dict(self.kept)
        return model

    def summary(self) -> dict[str, float]:
        """What was done, in numbers, with all that was done before it."""
        mine = {"steps": self.step, "tokens": self.tokens, "seconds": self.trained}
        return {name: number + self.before.get(name, 0) for name, number in mine.items()}

    def model(self) -> Llama:
        """The model to use: with averaged weights where the run keeps them."""
        model = Llama(self.run.model)
        model.load_state_dict(self.weights)
        if self.average is not None:
            model.load_state_dict(self.average, strict=False)  # a tied classifier follows
        return model.eval()
