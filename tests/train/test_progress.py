"""What a run shows of itself: a bar on a terminal, few lines in a log file, and how it ends."""

from __future__ import annotations

import io
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tinyzh.cli import main

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
pytest.importorskip("tqdm", reason="draws bars; pip install 'tinyzh[train]'")

from tiny_runs import TOKENIZER, Counting, tiny_run  # noqa: E402
from tinyzh.train import pipeline  # noqa: E402
from tinyzh.train.checkpoint import Checkpoint  # noqa: E402
from tinyzh.train.extra import track  # noqa: E402
from tinyzh.train.loop import Progress, Result, Task, train  # noqa: E402
from tinyzh.train.progress import shown  # noqa: E402

SAVED = "finishing what is in hand, then saving; once more ends without saving"


class Screen(io.StringIO):
    """Standard error, of the one kind or the other."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Screen]:
    def make(terminal: bool) -> Screen:
        screen = Screen(terminal)
        monkeypatch.setattr(sys, "stderr", screen)
        return screen

    return make


def test_a_bar_has_loss_speed_and_the_time_that_is_left(
    tmp_path: Path, screen: Callable[[bool], Screen]
) -> None:
    seen = screen(True)
    with shown() as progress:
        train(Task(tiny_run(steps=30), tmp_path, Counting(), Counting(), TOKENIZER), progress)
    assert re.search(
        r"50\.0% \|.*\| 00:\d\d<00:\d\d step 15 loss \d\.\d{3} [\d,]+ tokens/s", seen.getvalue()
    )
    assert "  0.0% |" in seen.getvalue()
    assert "step 15, evaluating" in seen.getvalue()
    assert "100.0% |" in seen.getvalue()
    assert "parameters on cpu" in seen.getvalue()
    assert re.search(
        r"step 15, 0\.0 minutes, train loss \d\.\d{4}, valid loss \d\.\d{4}\n", seen.getvalue()
    )


def test_a_resumed_bar_begins_where_the_other_ended(screen: Callable[[bool], Screen]) -> None:
    seen = screen(True)
    with shown() as progress:
        progress.show(0.5, "a")
        assert progress._bar.initial == 0.5  # type: ignore[attr-defined]
        progress.show(1.0, "b")
    assert "100.0%" in seen.getvalue()
    assert "  0.0% |" not in seen.getvalue().split("\r", 2)[-1]


def test_a_log_file_gets_every_evaluation_and_no_bars(
    tmp_path: Path, screen: Callable[[bool], Screen]
) -> None:
    seen = screen(False)
    with shown() as progress:
        train(Task(tiny_run(steps=30), tmp_path, Counting(), Counting(), TOKENIZER), progress)
    lines = seen.getvalue().splitlines()
    assert len([line for line in lines if "valid loss" in line]) == 2
    assert len(lines) == 4  # what is about to be done, where it stands (at first), both evaluations
    assert "\r" not in seen.getvalue()
    assert list(track([1, 2], "counting", unit="numbers")) == [1, 2]
    assert seen.getvalue().splitlines() == lines


@pytest.mark.parametrize(("minutes", "steps"), [(0.001, 0), (0.0, 3)])
def test_no_more_than_all_of_it_is_done(tmp_path: Path, minutes: float, steps: int) -> None:
    told: list[float] = []

    class Told:
        def say(self, text: str) -> None: ...

        def show(self, done: float, text: str) -> None:
            told.append(done)

    progress: Progress = Told()
    run = tiny_run(minutes=minutes, steps=steps)
    train(Task(run, tmp_path, Counting(), Counting(), TOKENIZER), progress)
    assert told[0] == 0
    assert told[-1] == max(told) == 1


# ---- how the command ends -----------------------------------------------------------------------


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """``tinyzh train model`` on batches that count, and perhaps interrupt."""

    def call(*arguments: str, data: Counting | None = None) -> tuple[int, str, str]:
        def train_counting(tokens: Path, out: Path, *, resume: bool, **_: object) -> Result:
            saved = Checkpoint.begun(out, resume)
            task = Task(tiny_run(), out, data or Counting(), Counting(), TOKENIZER, saved=saved)
            with shown() as progress:
                return train(task, progress)

        monkeypatch.setattr(pipeline, "train_model", train_counting)
        capsys.readouterr()
        code = main(["train", "model", "tokens", "--out", str(tmp_path / "run"), *arguments])
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command(
    command: Callable[..., tuple[int, str, str]], number: int, code: int
) -> None:
    ended, out, err = command(data=Counting(4, number))
    assert ended == code
    assert "run: 5 steps, 320 tokens, 0.0 minutes\n" in out
    assert SAVED in err
    assert err.endswith("tinyzh: interrupted and saved; --resume goes on\n")
    ended, out, err = command("--resume")
    assert (ended, SAVED in err) == (0, False)
    assert "run: 12 steps, 768 tokens, " in out
    assert "; valid loss " in out
    ended, _, err = command("--resume")
    assert ended == 0
    assert err.startswith("tinyzh: note: nothing was left to do, since the budget was used up")


def test_an_evaluation_was_left_to_do(command: Callable[..., tuple[int, str, str]]) -> None:
    assert command(data=Counting(11))[0] == 143
    ended, out, err = command("--resume")
    assert (ended, "nothing was left" in err) == (0, False)
    assert "run: 12 steps, 768 tokens, 0.0 minutes; valid loss " in out
