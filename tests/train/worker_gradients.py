"""A program for torchrun: the gradients that the optimiser sees in the first step, to a file.

torchrun --nproc-per-node 2 worker_gradients.py OUT ACCUMULATE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from tiny_runs import TOKENIZER, Counting, Uneven, tiny_run
from tinyzh.train import learner
from tinyzh.train.loop import Task, train
from tinyzh.train.optimizer import Optimizer

OUT, ACCUMULATE = Path(sys.argv[1]), int(sys.argv[2])


class Seen(Optimizer):
    """An optimiser that writes down what it is given."""

    def step(self, rate: float) -> None:
        gradients = {}
        for i, parameter in enumerate(self._parameters):
            assert parameter.grad is not None
            gradients[f"p{i}"] = parameter.grad.numpy().copy()
        if os.environ.get("RANK", "0") == "0":
            np.savez(OUT / "gradients.npz", **gradients)
        super().step(rate)


if __name__ == "__main__":
    learner.Optimizer = Seen  # type: ignore[misc]
    run = tiny_run(steps=1, batch=8, accumulate=ACCUMULATE, evaluations=1, spell=False)
    train(Task(run, OUT, Uneven(), Counting(), TOKENIZER))
