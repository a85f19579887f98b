"""Training: from batches of tokens to a checkpoint that tells stories.

A step is a function of the settings, the weights and its number: the number chooses the batch and
seeds the dropout. So a run that was interrupted goes on exactly where it was.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import InvalidArgument
from . import storyteller
from .checkpoint import NAME, Checkpoint
from .clock import Clock
from .config import Run
from .device import Workers, autocast, choose_device, resolve
from .errors import TrainingError
from .evaluate import measure
from .log import Log
from .model import Llama
from .optimizer import Average, Optimizer, learning_rate
from .tokenizer import RESERVED

__all__ = ["Batches", "Result", "train"]

LOG_EVERY = 10  # steps
# Bytes 0x80 to 0xFF in the tokenizers that are trained here: parts of rare characters.  A model
# that small, having learnt to write them, puts them together wrongly now and then.
SPELLED = (RESERVED - 0x80, RESERVED - 1)

Progress = Callable[[float, str], None]
"""Told how much of the run is done, from 0 to 1, and what can be said about it."""


class Batches(Protocol):
    """Where the tokens come from: :class:`tinyzh.train.shards.TokenDataset`, say."""

    def batch(
        self, step: int, batch: int, length: int, seed: int, rank: int = 0, world: int = 1
    ) -> NDArray[np.integer[Any]]:
        """This worker's rows (batch / world, length + 1) of the batch of a step."""


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    step: int
    tokens: int
    trained: float  #: seconds
    finished: bool  #: False: interrupted, and saved
    losses: dict[str, float]  #: of the last evaluation


class Objective(nn.Module):
    """The loss as a module, which is what PyTorch compiles and distributes."""

    def __init__(self, model: Llama) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return self.model.loss(tokens, targets)


def train(
    run: Run,
    out: Path,
    train_data: Batches,
    valid_data: Batches,
    tokenizer: Path,
    *,
    resume: bool = False,
    texts: Sequence[str] = (),
    progress: Progress = lambda done, text: None,
) -> Result:
    """Trains a model; checkpoint, log, picture and samples go into the folder ``out``.

    Args:
        tokenizer: a tokenizer.model or .bin, for the sample stories.
        resume: go on from the checkpoint in ``out``, if there is one.
        texts: held-out stories, measured in bits a character at each evaluation.

    SIGINT (Ctrl-C) and SIGTERM end it after the step in hand, with a checkpoint; a second one ends
    it at once.
    """
    workers = Workers()
    device = choose_device(run.training.device, workers.local_rank)
    with workers.joined(device), _stop_signals() as stop:
        trainer = _Trainer(run, out, workers, device, resume)
        trainer.train_data, trainer.valid_data = train_data, valid_data
        trainer.tokenizer, trainer.texts = tokenizer, texts
        return trainer.loop(stop, progress)


class _Trainer:
    """The parts of one run, and what is done with them."""

    train_data: Batches
    valid_data: Batches
    tokenizer: Path
    texts: Sequence[str]

    def __init__(
        self, run: Run, out: Path, workers: Workers, device: torch.device, resume: bool
    ) -> None:
        self.workers, self.device, self.out = workers, device, out
        self.settings = settings = resolve(run.training, device)
        self.run = run
        self.sizes = _batch_sizes(run, workers.count)
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
        self.step, self.clock = 0, Clock(0.0)
        self.losses: dict[str, float] = {}
        self.recent: list[Tensor] = []  # losses of the steps since the last row of the log
        self._restore(resume)
        out.mkdir(parents=True, exist_ok=True)
        self.objective: Any = Objective(self.model)
        if workers.count > 1:
            ids = [device.index] if device.type == "cuda" else None
            self.objective = DistributedDataParallel(self.objective, device_ids=ids)
        self.compute: Any = self.objective
        if settings.compile == "yes":
            self.compute = torch.compile(self.objective, dynamic=False)

    def _restore(self, resume: bool) -> None:
        path = self.out / NAME
        if not path.exists():
            return
        if not resume:
            raise TrainingError(
                f"{path}: there is a run already: --resume goes on with it, "
                "or give another folder with --out"
            )
        saved = Checkpoint.load(path)
        if saved.run.model != self.run.model:
            raise TrainingError(
                f"{path}: a model of another shape, {saved.run.model}; expected {self.run.model}"
            )
        if saved.run.training.optimizer != self.settings.optimizer:
            raise TrainingError(
                f"{path}: trained with {saved.run.training.optimizer}: "
                f"set optimizer={saved.run.training.optimizer} to go on"
            )
        self.model.load_state_dict(saved.weights)
        self.optimizer.load_state_dict(saved.optimizer)
        if self.average is not None:  # one that the run did not keep begins with its weights
            for name, weight in self.average.weights.items():
                weight.copy_((saved.average or saved.weights)[name])
        self.step, self.clock = saved.step, Clock(saved.trained)
        self.losses = saved.losses
        self.recent = [torch.tensor(loss, device=self.device) for loss in saved.recent]

    # ---- one step -----------------------------------------------------------------------------

    def one_step(self, progress: float) -> Tensor:
        """Forward, backward, update; returns this worker's mean loss."""
        settings, workers = self.settings, self.workers
        batch, length = self.sizes[_is_long(settings.long_every, self.step)]
        rows = self.train_data.batch(
            self.step, batch, length, settings.seed, workers.rank, workers.count
        )
        if settings.dropout:
            torch.manual_seed((settings.seed << 32) + self.step * workers.count + workers.rank)
        total = torch.zeros((), device=self.device)
        parts = np.split(np.asarray(rows, dtype=np.int64), settings.accumulate)
        for i, part in enumerate(parts):
            tokens = torch.from_numpy(part).to(self.device)
            targets = tokens[:, 1:].contiguous()
            if not settings.spell:
                targets[(targets >= SPELLED[0]) & (targets <= SPELLED[1])] = -1
            with self._gradients_shared(last=i == len(parts) - 1):
                with autocast(settings, self.device):
                    loss = self.compute(tokens[:, :-1].contiguous(), targets)
                self.optimizer.scaled(loss / len(parts)).backward()
            total += loss.detach()
        self.optimizer.step(learning_rate(settings, self.step, progress))
        if self.average is not None:
            self.average.update(self.model, self.step)
        self.step += 1
        return total / len(parts)

    def _gradients_shared(self, last: bool) -> Any:
        """Workers exchange gradients with the last part of a step only."""
        if self.workers.count == 1 or last:
            return nullcontext()
        return self.objective.no_sync()

    # ---- the run ------------------------------------------------------------------------------

    def progress(self) -> float:
        """The part of the budget that is used up."""
        if self.settings.steps:
            return self.step / self.settings.steps
        return self.clock.trained / (60 * self.settings.minutes)

    def loop(self, stop: threading.Event, report: Progress) -> Result:
        """Steps until the budget is used up or someone wants to stop."""
        first, every = self.workers.first, self.settings.evaluations
        log = Log(self.out, self.step) if first else None
        evaluated = math.floor(self.progress() * every + 1e-9)  # evaluations that lie behind
        counted = [0.0, 0.0]  # seconds and tokens since the last row of the log
        last_save = time.monotonic()
        stopped = False
        self.model.train()
        while not stopped and (progress := self.progress()) < 1:
            self.clock.start()
            rate = learning_rate(self.settings, self.step, progress)
            self.recent.append(self.one_step(progress))
            if self.device.type != "cpu":
                self.recent[-1].item()  # wait for the device, or there is nothing to measure
            counted[0] += self.clock.stop()
            counted[1] += self.tokens_a_step
            self.clock.trained, stopped = self.workers.agree(
                self.clock.trained, stop.is_set(), self.device
            )
            progress = self.progress()
            due = every > 0 and (progress >= 1 or progress * every + 1e-9 >= evaluated + 1)
            if self.step % LOG_EVERY == 0 or due or progress >= 1:
                row = self._row(rate, counted)
                self.recent, counted = [], [0.0, 0.0]
                if due:
                    evaluated = math.floor(progress * every + 1e-9)
                    report(progress, "evaluating")
                    row |= self.evaluate(log)
                if log is not None:
                    log.add(row)
                    if due:
                        log.plot()
                report(progress, _in_words(row, self.losses))
            if first and (due or time.monotonic() - last_save > 60 * self.settings.save_minutes):
                self.save()
                last_save = time.monotonic()
        if first:
            self.save()
            if log is not None:
                log.plot()
        finished = self.progress() >= 1
        tokens = self.step * self.tokens_a_step
        return Result(self.step, tokens, self.clock.trained, finished, self.losses)

    @property
    def tokens_a_step(self) -> int:
        """Over all workers."""
        return self.settings.batch * self.settings.length

    def _row(self, rate: float, counted: Sequence[float]) -> dict[str, float]:
        loss = self.workers.mean(torch.stack(self.recent).mean()).item()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {self.step}: set a lower lr or precision=float32 and "
                f"go on from the last checkpoint with --resume"
            )
        return {
            "step": self.step,
            "tokens": self.step * self.tokens_a_step,
            "minutes": self.clock.trained / 60,
            "lr": rate,
            "train_loss": loss,
            "tokens_per_second": counted[1] / counted[0] if counted[0] else 0.0,
        }

    def save(self) -> None:
        """Writes the checkpoint."""
        Checkpoint(
            run=self.run,
            step=self.step,
            trained=self.clock.trained,
            weights=self.model.state_dict(),
            average=self.average.weights if self.average else None,
            optimizer=self.optimizer.state_dict(),
            losses=self.losses,
            recent=[loss.item() for loss in self.recent],
        ).save(self.out / NAME)

    # ---- evaluation ---------------------------------------------------------------------------

    def evaluate(self, log: Log | None) -> dict[str, float]:
        """Measures held-out text and tells sample stories: the first worker, for all."""
        if log is None:
            return {}
        with self._averaged():
            self.model.eval()
            self.losses = {"valid_loss": self._valid_loss()}
            with storyteller.opened(self.model, self.tokenizer) as engine:
                if self.texts:
                    measured = measure(engine, self.texts)
                    self.losses["bits_per_character"] = measured.bits_per_character
                stories = storyteller.tell(engine, self.settings.prompts, self.settings.seed)
            self.model.train()
        title = f"step {self.step:,}, {self.clock.trained / 60:.1f} minutes"
        log.tell(title + "".join(f", {k} {v:.4f}" for k, v in self.losses.items()), stories)
        return self.losses

    @torch.no_grad()
    def _valid_loss(self) -> float:
        batch, length = self.settings.batch, self.settings.length
        batch = max(1, batch // self.workers.count)
        losses = []
        for i in range(self.settings.eval_batches):
            rows = np.asarray(self.valid_data.batch(i, batch, length, seed=0), dtype=np.int64)
            tokens = torch.from_numpy(rows).to(self.device)
            with autocast(self.settings, self.device):
                losses.append(self.model.loss(tokens[:, :-1], tokens[:, 1:]))
        return torch.stack(losses).mean().item()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model has its averaged weights meanwhile, if it keeps an average."""
        if self.average is None:
            yield
            return
        weights = dict(self.model.named_parameters())
        kept = {name: p.detach().clone() for name, p in weights.items()}
        for source in (self.average.weights, kept):
            with torch.no_grad():
                for name, weight in source.items():
                    weights[name].copy_(weight)
            if source is not kept:
                yield


def _is_long(every: int, step: int) -> bool:
    return every > 0 and step % every == every - 1


def _batch_sizes(run: Run, workers: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sequences and their length: of an ordinary step and of a long one."""
    t = run.training
    sizes = [(t.batch, t.length)]
    if t.long_every:
        sizes.append((t.batch * t.length // run.model.seq_len, run.model.seq_len))
    for batch, length in sizes:
        if not batch or batch % (workers * t.accumulate):
            raise InvalidArgument(
                f"batch is {t.batch}, which makes {batch} sequences of {length} tokens: not a "
                f"multiple of {workers} devices times accumulate, {t.accumulate}"
            )
    return sizes[0], sizes[-1]


def _in_words(row: dict[str, float], losses: dict[str, float]) -> str:
    text = f"step {int(row['step']):,} loss {row['train_loss']:.4f}"
    if "bits_per_character" in losses:
        text += f" bits/char {losses['bits_per_character']:.3f}"
    return f"{text} {row['tokens_per_second']:,.0f} tokens/s"


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, once; the second time they do what they always do."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
