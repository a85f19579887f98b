"""Training: from batches of tokens to a checkpoint that tells stories."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import storyteller
from .checkpoint import NAME, Checkpoint
from .clock import Clock
from .config import Run
from .dataset import Batches
from .device import Workers, memory_named, resolve
from .errors import TrainingError
from .evaluate import measure
from .interrupt import Stop, stop_signals
from .learner import Learner, Rows
from .log import Log
from .mistakes import Mistakes
from .optimizer import learning_rate
from .preflight import check
from .tokenizer_files import copy_trained

__all__ = ["Progress", "Result", "Silence", "Task", "train"]

LOG_EVERY = 10  # steps


class Progress(Protocol):
    """Who is told how a run gets on."""

    def say(self, text: str) -> None:
        """Something that stays to be read."""

    def show(self, done: float, text: str) -> None:
        """How much is done, from 0 to 1, and what can be said about it until the next time."""


class Silence:
    """Nobody."""

    def say(self, text: str) -> None:
        """Nothing."""

    def show(self, done: float, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Task:
    """What is to be trained, on what, and where it goes."""

    run: Run
    out: Path  #: folder for checkpoint, log, picture, samples and the tokenizer
    train_data: Batches
    valid_data: Batches
    tokenizer: Path  #: a tokenizer.model or .bin
    texts: Sequence[str] = ()  #: held-out stories, measured in bits a character
    saved: Checkpoint | None = None  #: to go on from
    start: Checkpoint | None = None  #: whose weights a new run begins with
    kept_data: Batches | None = None  #: text on which it keeps to ``Checkpoint.aim`` of those two


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    out: Path  #: its folder
    idle: bool  #: nothing was left to do
    step: int
    tokens: int
    trained: float  #: seconds
    finished: bool  #: False: interrupted, and saved
    signal: int  #: by which
    losses: dict[str, float]  #: of the last evaluation


def train(task: Task, progress: Progress | None = None) -> Result:
    """Trains a model.

    SIGINT (Ctrl-C) and SIGTERM end it after the step in hand, with a checkpoint; a second one, or
    one before the first step, ends it at once.

    Raises:
        InvalidArgument: something does not fit together; nothing is written then.
        TrainingError: too little memory; a loss that is no number; another run's checkpoint.
    """
    progress = progress or Silence()
    workers = Workers(task.run.training.device)
    settings = resolve(task.run.training, workers.device)
    with workers.joined(), memory_named(settings):
        learner = Learner(task.run, settings, workers)
        if task.saved is not None:
            learner.restore(task.saved)
        elif task.start is not None:
            learner.begin_with(task.start.model().state_dict())
        if task.kept_data is not None:
            origin = task.saved or task.start
            assert origin is not None
            learner.keep_to(origin.aim())
        loop = _Loop(task, learner, progress)
        if not loop.idle:
            progress.show(loop.done, "compiling" if settings.compile != "no" else "beginning")
            _prepare(task, learner, progress)
            with stop_signals(progress.say) as stop:
                loop.run(stop)
        return loop.result()


def _prepare(task: Task, learner: Learner, progress: Progress) -> None:
    """Everything that may fail, and then the first words and files."""
    run, workers, wanted = task.run, learner.workers, learner.settings.compile
    # In every process, so that all end with the same words.
    check(run, task.train_data, task.kept_data, learner.model, task.tokenizer, workers.count)
    if wanted != "no":
        problem = learner.compile(run.batch_sizes(workers.count))
        if problem and wanted == "yes":
            raise TrainingError(f"compile is yes, and failed: {problem}; auto goes on without")
        if problem:
            progress.say(f"not compiled, since that failed: {problem}")
    if workers.first:
        progress.say(_in_words(task, learner))
        copy_trained(task.tokenizer, task.out)


def _in_words(task: Task, learner: Learner) -> str:
    """What is about to be done."""
    t, parameters = learner.settings, sum(p.numel() for p in learner.model.parameters())
    a_pass = task.train_data.windows(t.length) / t.batch  # steps
    kept = "" if task.kept_data is None else " and as many to stay what it was"
    budget = f"{t.minutes:g} minutes"
    if t.steps:
        budget = f"{t.steps:,} steps, {t.steps / a_pass:.1f} passes"
    return (
        f"{parameters:,} parameters on {learner.workers.device} in {t.precision}, "
        f"{'compiled' if learner.compiled else 'not compiled'}; {t.batch} × {t.length} tokens a "
        f"step{kept}, {max(1, round(a_pass)):,} steps a pass over the text; budget {budget}"
    )


class _Loop:
    """Steps until the budget is used up or someone wants to stop."""

    def __init__(self, task: Task, learner: Learner, progress: Progress) -> None:
        self.task, self.learner, self.progress = task, learner, progress
        self.workers, self.settings = learner.workers, learner.settings
        self.sizes = task.run.batch_sizes(self.workers.count)
        self.valid_length = min(self.settings.length, task.valid_data.longest)
        saved = task.saved
        self.clock = Clock(saved.trained if saved else 0.0)
        self.tokens = saved.tokens if saved else 0
        self.losses = dict(saved.losses) if saved else {}
        self.recent = list(saved.recent) if saved else []  # losses since the last row of the log
        self.due = saved is not None and saved.due  # these weights are still to be evaluated
        self.evaluated = self._evaluations()  # those that lie behind
        self.mistakes: Mistakes | None = None
        if self.settings.unlikelihood:
            self.mistakes = Mistakes(
                self.settings, task.train_data, saved.mistakes if saved else ()
            )
        self.faulty = dict(saved.faulty) if saved else {}  # share of the last telling
        self.counted = [0.0, 0.0]  # seconds and tokens since the last row of the log
        self.speed = 0.0  # tokens a second, by the last row
        self.saved = time.monotonic()
        self.log: Log | None = None
        self.idle = self.finished  # from the beginning
        self.signal = 0  # by which it was interrupted

    @property
    def done(self) -> float:
        """The part of the budget that is used up."""
        if self.settings.steps:
            return min(1.0, self.learner.step / self.settings.steps)
        return min(1.0, self.clock.trained / (60 * self.settings.minutes))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.done >= 1 and not self.due

    def result(self) -> Result:
        """How it has ended."""
        return Result(
            out=self.task.out,
            idle=self.idle,
            step=self.learner.step,
            tokens=self.tokens,
            trained=self.clock.trained,
            finished=self.finished,
            signal=self.signal,
            losses=self.losses,
        )

    def run(self, stop: Stop) -> None:
        """All of it."""
        if self.workers.first:
            self.log = Log(self.task.out, self.learner.step - len(self.recent))
        stopped = False
        while not (stopped or self.finished):
            if self.due:
                self._evaluate()
            else:
                self._step()
            stopped = self.workers.largest(bool(stop)) == [1.0]
        self._save()
        self.signal = stop.signal
        if self.log is not None:
            self.log.plot()

    # ---- one step -----------------------------------------------------------------------------

    def _step(self) -> None:
        settings, workers, step = self.settings, self.workers, self.learner.step
        batch, length = self.sizes[_is_long(settings.long_every, step)]
        wrong = None
        if self.mistakes is not None:
            if self.mistakes.due(step):
                self._tell(self.mistakes)
            wrong = self.mistakes.wrong(step)
        self.clock.start()
        rows = self._rows(self.task.train_data, step, batch, length)
        kept = None
        if self.task.kept_data is not None:
            kept = self._rows(self.task.kept_data, step, batch, length)
        tokens = batch * length * (1 if kept is None else 2)
        loss = self.learner.learn(rows, learning_rate(settings, step, self.done), kept, wrong)
        if seconds := self.clock.stop():  # those of the first step cannot be told
            self.counted[0] += seconds
            self.counted[1] += tokens
        self.tokens += tokens
        self.recent.append(loss)
        mine = self.clock.trained if workers.first else 0.0
        finite = math.isfinite(loss + self.learner.distance)
        self.clock.trained, broken = workers.largest(mine, not finite)
        if broken:  # here, or in another process
            raise self._no_number(f"the loss is {workers.mean(loss)}")
        self.due = self._evaluations() > self.evaluated
        if self.due or time.monotonic() - self.saved > 60 * settings.save_minutes:
            self._save()  # before the evaluation, which may fail
        if not self.due and (self.learner.step % LOG_EVERY == 0 or self.done >= 1):
            self._write_row({})
        self.progress.show(self.done, self._in_words(loss))

    def _rows(self, data: Batches, step: int, batch: int, length: int) -> Rows:
        """This worker's."""
        workers = self.workers
        return data.batch(step, batch, length, self.settings.seed, workers.rank, workers.count)

    def _tell(self, mistakes: Mistakes) -> None:
        """Tells stories, from whose faults the next steps learn."""
        self.progress.show(self.done, f"step {self.learner.step:,}, telling stories")
        with (
            self.learner.shown() as model,
            storyteller.opened(model, self.task.tokenizer) as engine,
        ):
            self.faulty = {"faulty": mistakes.tell(engine, self.learner.step)}

    def _evaluations(self) -> int:
        """How many there should have been by now."""
        return math.floor(self.done * self.settings.evaluations + 1e-9)

    def _no_number(self, what: str) -> TrainingError:
        path = self.task.out / NAME
        there = f"--resume goes on from {path}" if path.exists() else "nothing is saved yet"
        return TrainingError(
            f"{what} at step {self.learner.step}: set a lower lr, such as "
            f"--set lr={self.settings.lr / 3:.1g}, or precision=float32; {there}"
        )

    # ---- evaluation ---------------------------------------------------------------------------

    def _evaluate(self) -> None:
        """Measures held-out text, all workers together, and tells sample stories."""
        self.progress.show(self.done, f"step {self.learner.step:,}, evaluating")
        losses, stories = {}, []
        with self.learner.shown() as model:
            if self.valid_length:
                losses["valid_loss"] = self._valid_loss()
            if self.workers.first:
                with storyteller.opened(model, self.task.tokenizer) as engine:
                    if self.task.texts:
                        measured = measure(engine, self.task.texts)
                        losses["bits_per_character"] = measured.bits_per_character
                    stories = storyteller.tell(engine, self.settings.prompts, self.settings.seed)
        self.losses, self.due, self.evaluated = losses, False, self._evaluations()
        train_loss = self._write_row(losses)
        title = f"step {self.learner.step:,}, {self.clock.trained / 60:.1f} minutes"
        self.progress.say(_with_losses(title, {"train_loss": train_loss, **losses}))
        if self.log is not None:
            self.log.tell(_with_losses(title, losses), stories)
            self.log.plot()

    def _valid_loss(self) -> float:
        """Of up to ``eval_batches`` batches of held-out text, always the same ones."""
        data, workers, batch = self.task.valid_data, self.workers, self.settings.batch
        length = self.valid_length
        count = min(self.settings.eval_batches, math.ceil(data.windows(length) / batch))
        losses = [
            self.learner.loss_on(data.batch(i, batch, length, 0, workers.rank, workers.count))
            for i in range(count)
        ]
        return workers.mean(sum(losses) / count)

    # ---- what stays ---------------------------------------------------------------------------

    def _write_row(self, losses: dict[str, float]) -> float:
        """Into the log, what happened since the last row; returns the mean loss of these steps."""
        loss = self.workers.mean(sum(self.recent) / len(self.recent))
        row = {
            "step": self.learner.step,
            "tokens": self.tokens,
            "minutes": self.clock.trained / 60,
            "lr": learning_rate(self.settings, self.learner.step, self.done),
            "train_loss": loss,
            **losses,
            **self.faulty,
        }
        if self.task.kept_data is not None:
            row["kept"] = self.learner.distance
        if self.counted[0]:
            self.speed = row["tokens_per_second"] = self.counted[1] / self.counted[0]
        self.recent, self.counted, self.faulty = [], [0.0, 0.0], {}
        if self.log is not None:
            self.log.add(row)
        return loss

    def _in_words(self, loss: float) -> str:
        text = f"step {self.learner.step:,} loss {loss:.3f}"
        return f"{text} {self.speed:,.0f} tokens/s" if self.speed else text

    def _save(self) -> None:
        """Writes the checkpoint: the first worker, for all."""
        self.saved = time.monotonic()
        if not self.workers.first:
            return
        if not self.learner.finite():
            raise self._no_number("the weights are no numbers")
        auto = ("precision", "device")
        Checkpoint(
            run=self.task.run,
            trained=self.clock.trained,
            losses=self.losses,
            recent=self.recent,
            tokens=self.tokens,
            due=self.due,
            texts=list(self.task.texts),
            resolved={
                **{name: getattr(self.settings, name) for name in auto},
                "compile": "yes" if self.learner.compiled else "no",
            },
            mistakes=self.mistakes.kept if self.mistakes else [],
            faulty=self.faulty,
            before=self._before(),
            **self.learner.state(),
        ).save(self.task.out / NAME)

    def _before(self) -> dict[str, float]:
        task = self.task
        if task.saved is not None:
            return task.saved.before
        return task.start.summary() if task.start else {}


def _is_long(every: int, step: int) -> bool:
    return every > 0 and step % every == every - 1


def _with_losses(title: str, losses: dict[str, float]) -> str:
    return title + "".join(f", {k.replace('_', ' ')} {v:.4f}" for k, v in losses.items())
