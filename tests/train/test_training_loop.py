"""The loop: it learns, it goes on as if it had never stopped, it says what is wrong."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")

from tiny_runs import SHAPE, TOKENIZER, Counting, Uneven, tiny_run  # noqa: E402
from tinyzh.errors import FileError, InvalidArgument  # noqa: E402
from tinyzh.train import storyteller  # noqa: E402
from tinyzh.train.checkpoint import Checkpoint  # noqa: E402
from tinyzh.train.clock import Clock  # noqa: E402
from tinyzh.train.config import Run  # noqa: E402
from tinyzh.train.device import Workers  # noqa: E402
from tinyzh.train.errors import TrainingError  # noqa: E402
from tinyzh.train.interrupt import stop_signals  # noqa: E402
from tinyzh.train.learner import Learner  # noqa: E402
from tinyzh.train.log import read_table  # noqa: E402
from tinyzh.train.loop import Result, Task, train  # noqa: E402
from tinyzh.train.model import Llama  # noqa: E402
from tinyzh.train.optimizer import learning_rate  # noqa: E402


def go(run: Run, out: Path, data: Counting | None = None, resume: bool = False) -> Result:
    saved = Checkpoint.begun(out, resume)
    return train(Task(run, out, data or Counting(), Counting(), TOKENIZER, saved=saved))


def losses(out: Path) -> list[tuple[float, float]]:
    return [(row["step"], row["train_loss"]) for row in read_table(out / "log.csv")]


def test_it_learns_to_count(tmp_path: Path) -> None:
    result = go(tiny_run(steps=150, evaluations=1), tmp_path)
    assert result.finished
    assert result.tokens == 150 * 4 * 16
    assert result.losses["valid_loss"] < 0.5  # the next number; ln 640 = 6.5 at the beginning
    first, last = losses(tmp_path)[0], losses(tmp_path)[-1]
    assert last[1] < first[1] / 4


FULL = {
    "dropout": 0.2,
    "ema": 0.9,
    "accumulate": 2,
    "long_every": 3,
    "optimizer": "muon",
}


@pytest.mark.parametrize("changes", [{}, FULL], ids=["plain", "everything"])
def test_an_interrupted_run_ends_with_the_same_bits(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    run = tiny_run(length=16, batch=8, steps=13, **changes)
    go(run, tmp_path / "whole")
    interrupted = Counting(signal_at=4)
    result = go(run, tmp_path / "parts", interrupted)
    assert not result.finished
    assert result.step == 5
    assert interrupted.steps == [0, 1, 2, 3, 4]
    rest = Counting()
    assert go(run, tmp_path / "parts", rest, resume=True).finished
    assert rest.steps == [5, 6, 7, 8, 9, 10, 11, 12]

    whole, parts = Checkpoint.load(tmp_path / "whole"), Checkpoint.load(tmp_path / "parts")
    for name, weight in whole.weights.items():
        assert torch.equal(weight, parts.weights[name]), name
    if "ema" in changes:
        assert whole.average is not None
        assert parts.average is not None
        for name, weight in whole.average.items():
            assert torch.equal(weight, parts.average[name]), name
            assert not torch.equal(weight, whole.weights[name]), name
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert whole.losses == parts.losses


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_either_signal_saves(tmp_path: Path, number: int) -> None:
    """The second one at once is the same, seen by another way: torchrun sends its own."""
    data = Counting(4, number)

    def twice(step: int, *args: int) -> NDArray[np.int64]:
        if step == 4:
            os.kill(os.getpid(), number)
        return Counting.batch(data, step, *args)

    data.batch = twice  # type: ignore[method-assign, assignment]
    result = go(tiny_run(), tmp_path, data)
    assert (result.finished, result.signal, result.step) == (False, number, 5)
    assert Checkpoint.load(tmp_path).step == 5


def test_what_ctrl_c_does_is_said_at_once_and_once_more_ends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    said: list[str] = []
    with stop_signals(said.append) as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        assert said == ["finishing what is in hand, then saving; once more ends without saving"]
        now[0] += 1.0
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 5.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert len(said) == 1


def test_ctrl_c_while_compiling_ends_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has been learnt that could be lost."""

    def interrupted(self: Learner, sizes: object) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return ""

    monkeypatch.setattr(Learner, "compile", interrupted)
    data = Counting()
    with pytest.raises(KeyboardInterrupt):
        go(tiny_run(compile="yes"), tmp_path / "run", data)
    assert data.steps == []
    assert not (tmp_path / "run").exists()


def test_the_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    go(tiny_run(), tmp_path, Counting(signal_at=1))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_is_not_begun_over_another(tmp_path: Path) -> None:
    go(tiny_run(steps=2), tmp_path)
    with pytest.raises(TrainingError, match="there is a run already: --resume"):
        go(tiny_run(steps=4), tmp_path)
    wider = dataclasses.replace(SHAPE, dim=24)
    with pytest.raises(TrainingError, match="a model of another shape"):
        go(tiny_run(wider, steps=4), tmp_path, resume=True)
    with pytest.raises(TrainingError, match="trained with adamw: set optimizer=adamw"):
        go(tiny_run(steps=4, optimizer="muon"), tmp_path, resume=True)


def test_a_used_up_budget_leaves_nothing_to_do(tmp_path: Path) -> None:
    go(tiny_run(steps=3), tmp_path)
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    result = go(tiny_run(steps=2), tmp_path, resume=True)
    assert (result.idle, result.step, result.finished) == (True, 3, True)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before


def test_there_must_be_a_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: no such file, so nothing to"):
        go(tiny_run(), tmp_path / "wrong", resume=True)


def test_an_evaluation_that_fails_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the first thing that the resumed run does."""

    def fails(*args: object) -> None:
        raise TrainingError("no room for stories")

    run = tiny_run(steps=14, evaluations=2)
    go(run, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(storyteller, "tell", fails)
        with pytest.raises(TrainingError, match="no room"):
            go(run, tmp_path / "parts")
    saved = Checkpoint.load(tmp_path / "parts")
    assert (saved.step, saved.due) == (7, True)
    data = Counting()
    assert go(run, tmp_path / "parts", data, resume=True).finished
    assert data.steps == list(range(7, 14))
    whole, parts = (read_table(tmp_path / name / "log.csv") for name in ("whole", "parts"))
    for name in ("step", "tokens", "lr", "train_loss", "valid_loss"):
        assert [row.get(name) for row in parts] == [row.get(name) for row in whole], name


def test_a_longer_budget_goes_on(tmp_path: Path) -> None:
    go(tiny_run(steps=3), tmp_path)
    more = Counting()
    assert go(tiny_run(steps=6), tmp_path, more, resume=True).step == 6
    assert more.steps == [3, 4, 5]


@pytest.mark.parametrize("damage", ["768,0.1,1e-3\n", "step\n1,2,3\n", "step\nx\n"])
def test_a_damaged_log_is_named(tmp_path: Path, damage: str) -> None:
    go(tiny_run(steps=3), tmp_path)
    with (tmp_path / "log.csv").open("w", encoding="utf-8") as file:
        file.write(f"{damage}{damage}")
    with pytest.raises(FileError, match=r"log\.csv: damaged \(.+\): remove it, and a new one"):
        go(tiny_run(steps=6), tmp_path, resume=True)
    (tmp_path / "log.csv").unlink()
    assert go(tiny_run(steps=6), tmp_path, resume=True).finished


def test_an_average_begun_later_begins_with_the_weights(tmp_path: Path) -> None:
    go(tiny_run(steps=3), tmp_path)
    before = Checkpoint.load(tmp_path).weights
    go(tiny_run(steps=4, ema=0.999), tmp_path, resume=True)
    after = Checkpoint.load(tmp_path)
    assert after.average is not None
    kept = (1 + 3) / (10 + 3)  # early averages forget sooner
    for name, average in after.average.items():
        expected = kept * before[name] + (1 - kept) * after.weights[name]
        torch.testing.assert_close(average, expected, msg=name)


def test_a_budget_of_minutes(tmp_path: Path) -> None:
    result = go(tiny_run(steps=0, minutes=0.5 / 60, evaluations=1), tmp_path)
    assert result.finished
    assert 0.5 <= result.trained < 2
    assert Checkpoint.load(tmp_path).trained == result.trained


def test_a_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a checkpoint"):
        Checkpoint.load(tmp_path)


def test_half_a_checkpoint_is_called_so(tmp_path: Path) -> None:
    go(tiny_run(steps=1), tmp_path)
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    for length in (0, 1, 1000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "checkpoint.pt").write_bytes(whole[:length])
        with pytest.raises(TrainingError, match=r"checkpoint\.pt: not a .*whole one: \S") as raised:
            Checkpoint.load(tmp_path)
        assert len(str(raised.value)) < 400
        assert "\n" not in str(raised.value)


def test_a_checkpoint_of_the_first_version(tmp_path: Path) -> None:
    """It knew nothing of tokens, evaluations to come, texts and what auto became."""
    run = tiny_run(steps=5)
    go(run, tmp_path)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for name in ("tokens", "due", "texts", "resolved"):
        del state[name]
    torch.save({**state, "version": 1}, path)
    saved = Checkpoint.load(tmp_path)
    assert (saved.tokens, saved.due, saved.texts, saved.resolved) == (5 * 64, False, [], {})
    result = go(tiny_run(steps=8), tmp_path, resume=True)
    assert (result.finished, result.tokens) == (True, 8 * 64)
    torch.save({**state, "version": 3}, path)
    with pytest.raises(TrainingError, match="checkpoint of version 3, expected 1 to 2"):
        Checkpoint.load(tmp_path)


def test_batches_must_fit(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="batch is 4, which makes 4 sequences of 16"):
        go(tiny_run(accumulate=3), tmp_path)
    with pytest.raises(InvalidArgument, match="makes 0 sequences of 32 tokens"):
        go(tiny_run(batch=1, long_every=2), tmp_path)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    wild = {"lr": 1.0, "min_lr": 1.0, "warmup": 0, "grad_clip": 0.0, "beta2": 0.0}
    with pytest.raises(TrainingError, match=r"nan at step \d+: set a lower lr.*nothing is saved"):
        go(tiny_run(steps=40, **wild), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_loss_that_is_no_number_may_be_another_process_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workers, "largest", lambda self, *values: [*values[:-1], 1.0])
    monkeypatch.setattr(Workers, "mean", lambda self, value: float("nan"))
    with pytest.raises(TrainingError, match="the loss is nan at step 1"):
        go(tiny_run(), tmp_path)


def test_weights_that_are_no_numbers_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step can spoil them though its loss was well."""
    go(tiny_run(steps=3), tmp_path)
    learn = Learner.learn

    def spoiling(self: Learner, rows: NDArray[np.int64], *arguments: Any) -> float:
        loss = learn(self, rows, *arguments)
        self.model.rms_final.weight.data[0] = float("nan")
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", spoiling)
        with pytest.raises(TrainingError, match=r"no numbers at step 4: .*--resume goes on from"):
            go(tiny_run(steps=4), tmp_path, resume=True)
    assert Checkpoint.load(tmp_path).step == 3
    assert go(tiny_run(steps=4), tmp_path, resume=True).finished


def test_tokens_are_those_that_were_read(tmp_path: Path) -> None:
    assert go(tiny_run(steps=3), tmp_path).tokens == 3 * 4 * 16
    result = go(tiny_run(steps=5, batch=8, long_every=5), tmp_path, resume=True)
    assert result.tokens == 3 * 64 + 128 + 128  # the last one of 4 rows of 32
    assert read_table(tmp_path / "log.csv")[-1]["tokens"] == 448
    assert Checkpoint.load(tmp_path).tokens == 448


def gradients(accumulate: int, spell: bool, weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    run = tiny_run(accumulate=accumulate, spell=spell)
    learner = Learner(run, run.training, Workers("cpu"))
    learner.model.load_state_dict(weights)
    seen: list[torch.Tensor] = []

    def note(rate: float) -> None:
        seen.extend(p.grad.clone() for p in learner.model.parameters() if p.grad is not None)

    learner.optimizer.step = note  # type: ignore[method-assign]
    learner.learn(Uneven().batch(0, 4, 16), 0.0)
    return seen


@pytest.mark.parametrize("spell", [True, False])
def test_parts_of_a_step_give_the_gradients_of_the_whole(spell: bool) -> None:
    weights = Llama(SHAPE).state_dict()
    whole, parts = gradients(1, spell, weights), gradients(2, spell, weights)
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)


def test_what_a_run_leaves(tmp_path: Path) -> None:
    texts = ["从前有一只小兔子。"]
    train(Task(tiny_run(), tmp_path, Counting(), Counting(), TOKENIZER, texts))
    rows = read_table(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [6, 10, 12]
    assert [("valid_loss" in row, "bits_per_character" in row) for row in rows] == [
        (True, True),
        (False, False),
        (True, True),
    ]
    assert rows[-1]["tokens"] == 12 * 64
    stories = (tmp_path / "samples.txt").read_text(encoding="utf-8")
    assert stories.count("## step ") == 2
    assert stories.count("从前") >= 2
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.pt", "log.csv", "loss.png", "samples.txt", "tokenizer.bin", "tokenizer.model",
    ]  # fmt: skip


def test_learning_rate() -> None:
    settings = tiny_run(warmup=9, lr=1.0, min_lr=0.1).training
    assert learning_rate(settings, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(settings, 4, 0.0) == pytest.approx(0.5)
    assert learning_rate(settings, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(settings, 500, 0.5) == pytest.approx(0.55)
    assert learning_rate(settings, 999, 1.0) == pytest.approx(0.1)


def test_the_speed_is_of_steps_whose_time_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the first one."""

    def one_second(self: Clock) -> float:
        counted = 1.0 if self._recent else 0.0
        self._recent.append(1.0)
        self.trained += counted
        return counted

    monkeypatch.setattr(Clock, "stop", one_second)
    go(tiny_run(), tmp_path)
    assert [row["tokens_per_second"] for row in read_table(tmp_path / "log.csv")] == [64, 64, 64]


def test_a_pause_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(50.0)
    for seconds in (20.0, 1.0, 1.0, 600.0, 1.0):  # the first one compiles
        clock.start()
        now[0] += seconds
        clock.stop()
    assert clock.trained == 50.0 + 1.0 + 1.0 + 3.0 + 1.0


class Spelling(Counting):
    """Every third token is a byte of a rare character."""

    def batch(self, *args: int) -> NDArray[np.int64]:  # type: ignore[override]
        rows = super().batch(*args)
        rows[:, ::3] = 200 + rows[:, ::3] % 20
        return rows


@pytest.mark.parametrize("spell", [True, False])
def test_bytes_of_rare_characters_are_learnt_only_if_wanted(tmp_path: Path, spell: bool) -> None:
    go(tiny_run(steps=150, evaluations=0, spell=spell), tmp_path, Spelling())
    model = Checkpoint.load(tmp_path).model()
    rows = torch.from_numpy(Spelling().batch(999, 4, 16, 1))
    shares = torch.softmax(model.eval()(rows[:, :-1]), -1)[..., 131:259].sum(-1)  # (4, 16)
    byte_follows = rows[:, 1:] < 259
    assert shares[~byte_follows].mean() < 0.3
    assert (shares[byte_follows].mean() > 0.5) == spell
    if not spell:
        assert shares.max() < 0.05
