"""Runs of training that take a second: a tiny model, and tokens with something to learn."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tinyzh.config import Config
from tinyzh.train.config import Run, Training

TOKENIZER = Path(__file__).parents[1] / "data" / "zh.model"
SHAPE = Config(
    dim=16,
    hidden_dim=21,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    vocab_size=640,
    seq_len=32,
    tied=True,
)


def tiny_run(shape: Config = SHAPE, **changes: object) -> Run:
    """Twelve steps on one thread, without a compiler."""
    settings: dict[str, object] = {
        "steps": 12,
        "batch": 4,
        "length": 16,
        "lr": 1e-2,
        "min_lr": 1e-3,
        "warmup": 2,
        "compile": "no",
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
        "evaluations": 2,
        "eval_batches": 1,
        "prompts": ("从前",),
    }
    return Run(shape, Training(**(settings | changes)))  # type: ignore[arg-type]


class Counting:
    """Batches that count upwards modulo a few tokens: easy to learn; different at each step."""

    def __init__(self, signal_at: int = -1, signal: int = signal.SIGTERM) -> None:
        self.signal_at, self.signal = signal_at, signal  #: the step that is interrupted, and how
        self.steps: list[int] = []
        self.longest = 10_000

    def windows(self, length: int) -> int:
        return 100

    def batch(
        self, step: int, batch: int, length: int, seed: int = 1, rank: int = 0, world: int = 1
    ) -> NDArray[np.int64]:
        self.steps.append(step)
        if step == self.signal_at:
            os.kill(os.getpid(), self.signal)
        starts = np.random.default_rng([seed, step]).integers(0, 30, (batch, 1))
        rows = 300 + (starts + np.arange(length + 1)) % 30
        share = batch // world
        return rows[rank * share : (rank + 1) * share]


class Uneven(Counting):
    """Some rows have bytes of rare characters, so that parts of a batch have unlike targets."""

    def batch(self, *args: int) -> NDArray[np.int64]:  # type: ignore[override]
        rows = super().batch(*args)
        rows[rows[:, 0] % 4 == 0, 1::2] = 200
        return rows
