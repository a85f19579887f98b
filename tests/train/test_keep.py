"""A run that learns something new and stays what it was on other text."""

from __future__ import annotations

import signal
from math import nan
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")

from tiny_runs import TOKENIZER, Counting, tiny_run  # noqa: E402
from tinyzh.errors import InvalidArgument  # noqa: E402
from tinyzh.train import preflight  # noqa: E402
from tinyzh.train.checkpoint import Checkpoint  # noqa: E402
from tinyzh.train.device import Workers, resolve  # noqa: E402
from tinyzh.train.errors import TrainingError  # noqa: E402
from tinyzh.train.learner import Learner  # noqa: E402
from tinyzh.train.log import read_table  # noqa: E402
from tinyzh.train.loop import Result, Task, train  # noqa: E402
from tinyzh.train.model import Llama  # noqa: E402
from tinyzh.train.pipeline import train_model  # noqa: E402


class Backwards(Counting):
    """Counts down, with other tokens."""

    def batch(self, *args: int) -> NDArray[np.int64]:  # type: ignore[override]
        rows: NDArray[np.int64] = super().batch(*args)[:, ::-1] + 40
        return rows


def learner_of(**changes: object) -> Learner:
    run, workers = tiny_run(**changes), Workers("cpu")
    return Learner(run, resolve(run.training, workers.device), workers)


def first_run(folder: Path, steps: int = 60) -> Checkpoint:
    run = tiny_run(steps=steps, ema=0.5)
    train(Task(run, folder, Counting(), Counting(), TOKENIZER))
    return Checkpoint.load(folder)


def go(
    out: Path, start: Checkpoint, data: Counting, resume: bool = False, **changes: object
) -> Result:
    saved = Checkpoint.begun(out, resume)
    return train(
        Task(
            tiny_run(**({"ema": 0.5, "dropout": 0.2} | changes)), out, data, Counting(), TOKENIZER,
            saved=saved, start=None if saved else start, kept_data=Counting(),
        )
    )  # fmt: skip


def test_the_difference_is_the_divergence() -> None:
    learner = learner_of()
    before = Llama(learner.run.model)
    learner.keep_to(before)
    tokens = torch.from_numpy(Counting().batch(0, 4, 16))
    found = learner._distance(tokens)
    with torch.no_grad():
        p, q = before(tokens).softmax(-1), learner.model(tokens).softmax(-1)
    expected = (p * (p / q).log()).sum()
    assert expected > 0.1
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    found.backward()
    assert learner.model.tok_emb.weight.grad is not None
    assert before.tok_emb.weight.grad is None
    before.load_state_dict(learner.model.state_dict())
    assert learner._distance(tokens).item() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_learns_the_new_and_keeps_the_old(tmp_path: Path, accumulate: int) -> None:
    start = first_run(tmp_path / "first")
    losses = {}
    for keeping in (False, True):
        learner = learner_of(ema=0.0, accumulate=accumulate)
        learner.begin_with(start.model().state_dict())
        learner.keep_to(start.model())
        for step in range(80):
            old, new = (data.batch(step, 4, 16) for data in (Counting(), Backwards()))
            learner.learn(new, 1e-2, old if keeping else None)
        losses[keeping] = [
            learner.loss_on(data.batch(99, 4, 16)) for data in (Counting(), Backwards())
        ]
    before = start.losses["valid_loss"]
    assert losses[True][1] < 1.5  # of the new
    assert losses[False][1] < 1.5
    assert losses[False][0] > before + 1.0  # the old is forgotten
    assert losses[True][0] < before + 0.3


def test_parts_of_a_step_give_the_gradients_of_the_whole() -> None:
    now, before = Llama(tiny_run().model), Llama(tiny_run().model)

    def gradients(accumulate: int, keep: float = 1.0) -> list[torch.Tensor]:
        learner = learner_of(accumulate=accumulate, keep=keep)
        learner.begin_with(now.state_dict())
        learner.keep_to(before)
        seen: list[torch.Tensor] = []

        def note(_: float) -> None:
            seen.extend(p.grad.clone() for p in learner.model.parameters() if p.grad is not None)

        learner.optimizer.step = note  # type: ignore[method-assign]
        learner.learn(Counting().batch(0, 4, 16), 0.0, Counting().batch(1, 4, 16))
        return seen

    whole, parts, without = gradients(1), gradients(2), gradients(1, keep=0.001)
    assert any(not torch.allclose(one, two) for one, two in zip(whole, without, strict=True))
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-7)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    start = first_run(tmp_path / "first")
    assert go(tmp_path / "whole", start, Backwards()).finished
    stopped = go(tmp_path / "parts", start, Backwards(signal_at=5, signal=signal.SIGTERM))
    assert stopped.step == 6
    assert go(tmp_path / "parts", start, Backwards(), resume=True).finished
    whole, parts = Checkpoint.load(tmp_path / "whole"), Checkpoint.load(tmp_path / "parts")
    for name, weight in whole.weights.items():
        assert torch.equal(weight, parts.weights[name]), name
    assert whole.tokens == 2 * 12 * 4 * 16  # those that are kept are read too
    assert whole.kept is not None
    first = start.model().state_dict()
    assert all(torch.equal(weight, first[name]) for name, weight in whole.kept.items())


def test_a_further_run_keeps_to_the_first(tmp_path: Path) -> None:
    start = first_run(tmp_path / "first")
    go(tmp_path / "second", start, Backwards())
    go(tmp_path / "third", Checkpoint.load(tmp_path / "second"), Backwards(), steps=3)
    second, third = (Checkpoint.load(tmp_path / name) for name in ("second", "third"))
    first = start.model().state_dict()
    assert second.kept is not None
    assert third.kept is not None
    for name, weight in first.items():
        assert torch.equal(second.kept[name], weight)
        assert torch.equal(third.kept[name], weight)
    assert any(not torch.equal(first[name], weight) for name, weight in second.weights.items())


def test_what_is_lost_is_logged(tmp_path: Path) -> None:
    go(tmp_path / "run", first_run(tmp_path / "first"), Backwards(), steps=30, dropout=0.0)
    rows = read_table(tmp_path / "run" / "log.csv")
    assert len(rows) >= 3
    assert all(row["kept"] > 0 for row in rows)
    assert "kept" not in read_table(tmp_path / "first" / "log.csv")[0]


def test_a_distance_that_is_no_number_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = first_run(tmp_path / "first")
    monkeypatch.setattr(Learner, "_distance", lambda self, tokens: self._loss(tokens, tokens) * nan)
    with pytest.raises(TrainingError, match="the loss is"):
        go(tmp_path / "run", start, Backwards())


def test_compiled_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch compiles is what is computed; where that fails, it goes on without."""
    start = first_run(tmp_path / "first")
    compiled: list[object] = []

    def take(module: object, dynamic: bool) -> object:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", take)
    go(tmp_path / "taken", start, Backwards(), compile="yes")
    assert [type(module).__name__ for module in compiled] == ["Objective", "Difference"]

    def broken(module: torch.nn.Module, dynamic: bool) -> object:
        def fail(*_: object) -> None:
            raise RuntimeError("no compiler")

        return fail if type(module).__name__ == "Difference" else module

    monkeypatch.setattr(torch, "compile", broken)
    go(tmp_path / "without", start, Backwards(), compile="auto")
    go(tmp_path / "plain", start, Backwards(), compile="no")
    weights = [Checkpoint.load(tmp_path / name).weights for name in ("taken", "without", "plain")]
    for name, weight in weights[-1].items():
        assert all(torch.equal(weight, other[name]) for other in weights), name


def too_little() -> int:
    raise InvalidArgument("too little text")


def test_what_cannot_be_kept_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_of()
    with pytest.raises(InvalidArgument, match="--keep is for one process, and there are 2"):
        preflight.check(learner.run, Counting(), Counting(), learner.model, TOKENIZER, 2)
    with pytest.raises(InvalidArgument, match="this one is new: name the run that it begins with"):
        train_model(tmp_path / "data", tmp_path / "run", keep=tmp_path / "old")
    start = first_run(tmp_path / "first", steps=1)
    with pytest.raises(InvalidArgument, match="begun without --keep: leave it out this time too"):
        train_model(tmp_path, tmp_path / "first", keep=tmp_path / "old", resume=True)
    go(tmp_path / "run", start, Backwards(), steps=1)
    with pytest.raises(InvalidArgument, match="begun with --keep: give it this time too"):
        train_model(tmp_path, tmp_path / "run", resume=True)
    with pytest.raises(InvalidArgument, match=r"keep is 0: expected 0\.001 to 1000"):
        tiny_run(keep=0.0)
    empty = Counting()
    monkeypatch.setattr(empty, "windows", lambda _: too_little())
    with pytest.raises(InvalidArgument, match="too little"):
        preflight.check(learner.run, Counting(), empty, learner.model, TOKENIZER, 1)
