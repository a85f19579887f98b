"""A model that learns: its weights, what is done to them in a step, and how that is computed.

A step is a function of the settings, the weights and its number: the number chooses the batch and
seeds the dropout. So a run that was interrupted goes on exactly where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .checkpoint import Checkpoint
from .config import Run, Training
from .device import Workers, autocast, first_words, lacks_memory
from .errors import TrainingError
from .mistakes import Wrong
from .model import Llama
from .optimizer import Average, Optimizer
from .tokenizer import RESERVED

__all__ = ["Learner", "Rows"]

# Bytes 0x80 to 0xFF in the tokenizers that are trained here: parts of rare characters.  A model
# that small, having learnt to write them, puts them together wrongly now and then.
SPELLED = (RESERVED - 0x80, RESERVED - 1)

Rows = NDArray[np.integer[Any]]
"""Tokens (B, T + 1): inputs and, one further, targets."""


class Objective(nn.Module):
    """The loss as a module, which is what PyTorch compiles and distributes."""

    def __init__(self, model: Llama) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The sum of the cross-entropies."""
        return self.model.loss(tokens, targets)


class Difference(nn.Module):
    """How far a model is from what it was, as a module for the same reason."""

    def __init__(self, model: Llama, before: Llama) -> None:
        super().__init__()
        self.model, self.before = model, before

    def forward(self, tokens: Tensor) -> Tensor:
        """The sum of KL(before ‖ model) over the tokens that may follow each of ``tokens``."""
        with torch.no_grad():
            wanted = self.before(tokens).flatten(0, 1).float().log_softmax(-1)  # (B T, V)
        found = self.model(tokens).flatten(0, 1).float().log_softmax(-1)
        return F.kl_div(found, wanted, log_target=True, reduction="sum")


class Learner:
    """The state of one training.

    Args:
        settings: those of the run with every ``auto`` resolved; ``compile`` may be ``auto``.
        workers: the processes that train together, each with a copy of the model.
    """

    def __init__(self, run: Run, settings: Training, workers: Workers) -> None:
        self.run, self.settings, self.workers = run, settings, workers
        device = workers.device
        if device.type == "cpu":
            torch.set_flush_denormal(True)
            if settings.threads:
                torch.set_num_threads(settings.threads)
        elif device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        torch.manual_seed(settings.seed)
        self.model = Llama(run.model, settings.dropout, settings.locked_dropout).to(device)
        self.average = Average(self.model, settings.ema) if settings.ema else None
        self.optimizer = Optimizer(self.model, settings, device)
        self.step = 0  #: steps done
        self.distance = 0.0  #: nats a token from what it keeps to, in the last one
        self.compiled = False
        self._objective: Any = Objective(self.model)
        if workers.count > 1:
            ids = [device.index] if device.type == "cuda" else None
            self._objective = DistributedDataParallel(self._objective, device_ids=ids)
        self._compute = self._objective
        self._kept: Llama | None = None
        self._difference: Any = None

    # ---- a checkpoint -------------------------------------------------------------------------

    def restore(self, saved: Checkpoint) -> None:
        """Goes on from there.

        Raises:
            TrainingError: it is of another shape, or of another optimiser.
        """
        if saved.run.model != self.run.model:
            raise TrainingError(
                f"--resume: the run has a model of another shape, {saved.run.model}; "
                f"expected {self.run.model}"
            )
        if saved.run.training.optimizer != self.settings.optimizer:
            raise TrainingError(
                f"--resume: the run was trained with {saved.run.training.optimizer}: "
                f"set optimizer={saved.run.training.optimizer} to go on"
            )
        self.model.load_state_dict(saved.weights)
        self.optimizer.load_state_dict(saved.optimizer)
        if self.average is not None:  # one that the run did not keep begins with its weights
            for name, weight in self.average.weights.items():
                weight.copy_((saved.average or saved.weights)[name])
        self.step = saved.step

    def keep_to(self, before: Llama) -> None:
        """From now on steps are given text on which the model shall stay what it was before."""
        self._kept = before.eval().requires_grad_(False).to(self.workers.device)
        self._difference = Difference(self.model, self._kept)

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        """Takes the weights of another training; its average begins with them too."""
        self.model.load_state_dict(weights)
        if self.average is not None:
            self.average = Average(self.model, self.settings.ema)

    def state(self) -> dict[str, Any]:
        """What a checkpoint has of it."""
        return {
            "step": self.step,
            "weights": self.model.state_dict(),
            "average": self.average.weights if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "kept": self._kept.state_dict() if self._kept else None,
        }

    def finite(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(torch.isfinite(p).all()) for p in self.model.parameters())

    # ---- one step -----------------------------------------------------------------------------

    def compile(self, sizes: Sequence[tuple[int, int]]) -> str:
        """Compiles the step for batches of these sizes (rows of all workers, length).

        Returns why that cannot be, or nothing. Nothing is learnt.
        """
        self._compute, difference = torch.compile(self._objective, dynamic=False), self._difference
        if difference is not None:
            self._difference = torch.compile(difference, dynamic=False)
        problem = ""
        try:
            for rows, length in sizes:
                share = rows // (self.workers.count * self.settings.accumulate)
                tokens = torch.ones(share, length, dtype=torch.int64, device=self.workers.device)
                with self._gradients_kept_here():
                    self._loss(tokens, tokens).backward()
                    if difference is not None:
                        self._distance(tokens).backward()
        except Exception as error:
            if lacks_memory(error):
                raise
            problem = first_words(error)
        self.optimizer.forget_gradients()
        self.compiled = self.workers.largest(float(bool(problem))) == [0.0]
        if not self.compiled:
            torch._dynamo.reset()
            self._compute, self._difference = self._objective, difference
            return problem or "another process could not"
        return ""

    def learn(
        self, rows: Rows, rate: float, kept: Rows | None = None, wrong: Wrong | None = None
    ) -> float:
        """A step: forward, backward, update. ``rows`` are this worker's; returns their loss.

        On the rows that are ``kept`` the model stays what it was; what is ``wrong`` becomes less
        likely.
        """
        settings, workers = self.settings, self.workers
        if settings.dropout:
            torch.manual_seed((settings.seed << 32) + self.step * workers.count + workers.rank)
        parts = [self._inputs_and_targets(part) for part in np.split(rows, settings.accumulate)]
        # Each target counts the same, in whichever part and with whichever worker it is: workers
        # share the mean of their gradients, so each divides by the mean number of targets.
        targets = sum(int((targets >= 0).sum()) for _, targets in parts)
        scale = 1 / max(1.0, workers.mean(targets))
        total = torch.zeros((), device=workers.device)
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last else self._gradients_kept_here():
                loss = self._loss(*(tensor.to(workers.device) for tensor in part)) * scale
                self.optimizer.scaled(loss).backward()
            total += loss.detach()
        if kept is not None:
            self._keep(kept)
        if wrong is not None:
            self.optimizer.scaled(settings.unlikelihood * self._unlikelihood(wrong)).backward()
        self.optimizer.step(rate)
        if self.average is not None:
            self.average.update(self.model, self.step)
        self.step += 1
        return total.item()

    def _inputs_and_targets(self, rows: Rows) -> tuple[Tensor, Tensor]:
        tokens = torch.from_numpy(np.asarray(rows, dtype=np.int64))
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        if not self.settings.spell:
            targets[(targets >= SPELLED[0]) & (targets <= SPELLED[1])] = -1
        return inputs, targets

    def _loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        with autocast(self.settings, self.workers.device):
            loss: Tensor = self._compute(tokens, targets)
        return loss

    def _keep(self, rows: Rows) -> None:
        """Backward through the distance from what the model was."""
        inputs = [
            self._inputs_and_targets(part)[0] for part in np.split(rows, self.settings.accumulate)
        ]
        scale = 1 / sum(tokens.numel() for tokens in inputs)
        total = torch.zeros((), device=self.workers.device)
        for tokens in inputs:
            distance = self._distance(tokens.to(self.workers.device)) * scale
            self.optimizer.scaled(self.settings.keep * distance).backward()
            total += distance.detach()
        self.distance = total.item()

    def _distance(self, tokens: Tensor) -> Tensor:
        with autocast(self.settings, self.workers.device):
            distance: Tensor = self._difference(tokens)
        return distance

    def _unlikelihood(self, wrong: Wrong) -> Tensor:
        """The mean of −ln(1 − p) over the faults, p being what the model without dropout gives.

        1 − p is the sum of the other probabilities, so that there is a way down from p = 1.
        """
        tokens, rows, places = (tensor.to(self.workers.device) for tensor in wrong)
        self.model.eval()
        with autocast(self.settings, self.workers.device):
            logits = self.model(tokens[:, :-1])[rows, places - 1].float()  # (F, V)
        self.model.train()
        others = logits.scatter(1, tokens[rows, places][:, None], -torch.inf)
        loss: Tensor = (logits.logsumexp(-1) - others.logsumexp(-1)).mean()
        return loss

    def _gradients_kept_here(self) -> AbstractContextManager[object]:
        """Workers exchange gradients with the last part of a step only."""
        if self.workers.count == 1:
            return nullcontext()
        kept: AbstractContextManager[object] = self._objective.no_sync()
        return kept

    # ---- looking at it ------------------------------------------------------------------------

    @contextmanager
    def shown(self) -> Iterator[Llama]:
        """The model as it would be exported: averaged weights if it keeps them, no dropout."""
        weights = dict(self.model.named_parameters())
        average = self.average.weights if self.average else {}
        kept = {name: weights[name].detach().clone() for name in average}
        self.model.eval()
        _copy(average, weights)
        try:
            yield self.model
        finally:
            _copy(kept, weights)
            self.model.train()

    @torch.no_grad()
    def loss_on(self, rows: Rows) -> float:
        """The mean loss of rows that are not learnt from."""
        tokens = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self.workers.device)
        with autocast(self.settings, self.workers.device):
            loss = self.model.loss(tokens[:, :-1], tokens[:, 1:])
        return loss.item() / (tokens.numel() - len(tokens))


@torch.no_grad()
def _copy(source: dict[str, Tensor], weights: dict[str, nn.Parameter]) -> None:
    for name, weight in source.items():
        weights[name].copy_(weight)
