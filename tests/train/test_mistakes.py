"""A run that tells stories and unlearns what it told wrongly."""

from __future__ import annotations

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")

from tiny_runs import TOKENIZER, Counting, tiny_run  # noqa: E402
from tinyzh.errors import InvalidArgument  # noqa: E402
from tinyzh.generation import Generation  # noqa: E402
from tinyzh.tokenizer import open_tokenizer  # noqa: E402
from tinyzh.train import preflight, storyteller  # noqa: E402
from tinyzh.train.checkpoint import Checkpoint  # noqa: E402
from tinyzh.train.device import Workers, resolve  # noqa: E402
from tinyzh.train.faults import FaultFinder  # noqa: E402
from tinyzh.train.learner import Learner  # noqa: E402
from tinyzh.train.log import read_table  # noqa: E402
from tinyzh.train.loop import Result, Task, train  # noqa: E402
from tinyzh.train.mistakes import KEPT, ROWS, Mistakes  # noqa: E402

UNLEARNING = {"unlikelihood": 1.0, "tell_every": 4, "told": 24, "ema": 0.5}


@pytest.fixture
def every_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last token of every story is a fault."""

    def looked_at(_: Mistakes, told: Generation, pieces: object) -> tuple[list[int], list[int]]:
        tokens = [*told.prompt_ids, *told.token_ids]
        return tokens, [len(tokens) - 1] if told.token_ids else []

    monkeypatch.setattr(Mistakes, "_looked_at", looked_at)


def go(out: Path, data: Counting, resume: bool = False, **changes: object) -> Result:
    saved = Checkpoint.begun(out, resume)
    run = tiny_run(**(UNLEARNING | changes))
    return train(Task(run, out, data, Counting(), TOKENIZER, saved=saved))


def learner_of(**changes: object) -> Learner:
    run = tiny_run(**(UNLEARNING | changes))
    workers = Workers("cpu")
    return Learner(run, resolve(run.training, workers.device), workers)


STORY = "从前，有一个男孩叫约翰。有一天，约翰和约翰去公园玩。约翰笑了。"


def looked_at(story: str, given: int = 3, ends: str = "stop") -> list[str]:
    """What is before each place that is found in a story, the first tokens of which were given."""
    tokenizer = open_tokenizer(TOKENIZER)
    tokens = tokenizer.encode(story)
    told = SimpleNamespace(prompt_ids=tokens[:given], token_ids=tokens[given:], finish_reason=ends)
    mistakes = Mistakes(learner_of().settings, Counting())
    seen, places = mistakes._looked_at(told, tokenizer.pieces)  # type: ignore[arg-type]
    assert seen == tokens
    return [tokenizer.decode(tokens[:place]).lstrip() for place in places]


def test_places_are_those_of_the_faults() -> None:
    before, _, _ = STORY.rpartition("约翰去")
    assert looked_at(STORY) == [before]
    assert looked_at(STORY + "约翰帮助约翰。") == [before, STORY + "约翰帮助"]
    assert looked_at(STORY, given=len(open_tokenizer(TOKENIZER).encode(STORY))) == []  # not told


def test_what_is_cut_off_is_no_fault() -> None:
    """约翰和约翰 may have gone on: 的妈妈."""
    assert looked_at(STORY[: STORY.index("去公园")]) != []
    assert looked_at(STORY[: STORY.index("去公园")], ends="length") == []
    assert looked_at(STORY[:-1], ends="length") == looked_at(STORY)


def test_a_broken_character_ends_what_is_looked_at() -> None:
    tokenizer = open_tokenizer(TOKENIZER)
    byte = tokenizer.pieces.index(b"\xe4")
    tokens = [*tokenizer.encode(STORY), byte, *tokenizer.encode(STORY, bos=False)]
    told = SimpleNamespace(prompt_ids=tokens[:2], token_ids=tokens[2:], finish_reason="stop")
    mistakes = Mistakes(learner_of().settings, Counting())
    _, places = mistakes._looked_at(told, tokenizer.pieces)  # type: ignore[arg-type]
    assert len(places) == 1
    assert places[0] < tokens.index(byte)


def test_a_batch_has_faulty_stories_and_their_places(every_last: None) -> None:
    learner = learner_of()
    mistakes = Mistakes(learner.settings, Counting())
    assert mistakes.wrong(0) is None
    with learner.shown() as model, storyteller.opened(model, TOKENIZER) as engine:
        for step in range(0, 4 * KEPT + 4, 4):
            assert mistakes.due(step)
            assert not mistakes.due(step + 1)
            assert mistakes.tell(engine, step) > 0
    assert len(mistakes.kept) == KEPT
    wrong = mistakes.wrong(7)
    assert wrong is not None
    tokens, rows, places = wrong
    assert tokens.shape[0] == ROWS
    assert tokens[:, 0].tolist() == [1] * ROWS
    assert set(rows.tolist()) == set(range(ROWS))
    assert bool((places > 0).all())
    assert all(torch.equal(a, b) for a, b in zip(wrong, mistakes.wrong(7) or (), strict=True))
    again = Mistakes(learner.settings, Counting(), mistakes.kept).wrong(7)
    assert all(torch.equal(a, b) for a, b in zip(wrong, again or (), strict=True))


def test_what_was_wrong_becomes_less_likely() -> None:
    tokens = torch.tensor([[1, 300, 301, 302, 303], [1, 310, 311, 312, 313]])
    rows, places = torch.tensor([0, 1, 1]), torch.tensor([3, 2, 4])

    def probabilities(learner: Learner) -> torch.Tensor:
        with learner.shown() as model, torch.no_grad():
            logits = model(tokens)[rows, places - 1]
        return logits.softmax(-1).gather(1, tokens[rows, places][:, None])

    data = Counting()
    with_it, without = learner_of(ema=0.0), learner_of(ema=0.0)
    for step in range(60):  # 302 follows 301, the data say
        for learner in (with_it, without):
            learner.learn(data.batch(step, 4, 16), 1e-2)
    assert probabilities(without)[0] > 0.2
    for step in range(60, 75):
        with_it.learn(data.batch(step, 4, 16), 1e-2, wrong=(tokens, rows, places))
        without.learn(data.batch(step, 4, 16), 1e-2)
    assert bool((probabilities(with_it) < 0.5 * probabilities(without)).all())
    assert with_it.model.training


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, every_last: None) -> None:
    changes: dict[str, object] = {"steps": 11, "dropout": 0.2, "prompts": ("从前", "")}
    assert go(tmp_path / "whole", Counting(), **changes).finished
    stopped = go(tmp_path / "parts", Counting(signal_at=5, signal=signal.SIGTERM), **changes)
    assert stopped.step == 6  # not one at which stories are told
    assert Checkpoint.load(tmp_path / "parts").mistakes
    assert go(tmp_path / "parts", Counting(), resume=True, **changes).finished
    whole, parts = Checkpoint.load(tmp_path / "whole"), Checkpoint.load(tmp_path / "parts")
    for name, weight in whole.weights.items():
        assert torch.equal(weight, parts.weights[name]), name
    one, other = (
        [row.get("faulty") for row in read_table(tmp_path / name / "log.csv")]
        for name in ("whole", "parts")
    )
    assert any(one)
    assert one == other
    plain = go(tmp_path / "plain", Counting(), **changes | {"unlikelihood": 0.0})
    assert plain.finished
    assert any(
        not torch.equal(weight, Checkpoint.load(tmp_path / "plain").weights[name])
        for name, weight in whole.weights.items()
    )


def test_a_sure_mistake_is_unlearnt_too() -> None:
    learner = learner_of(ema=0.0)
    tokens = torch.tensor([[1, 300, 301]])
    wrong = tokens, torch.tensor([0]), torch.tensor([2])
    loss = learner._unlikelihood(wrong)
    with torch.no_grad():
        p = learner.model(tokens[:, :-1])[0, 1].softmax(-1)[301]
    assert loss.item() == pytest.approx(-torch.log1p(-p).item(), rel=1e-4)
    learner.model.tok_emb.weight.data *= 1e3  # all of the probability is on one token
    with torch.no_grad():
        sure = int(learner.model(tokens[:, :-1])[0, 1].argmax())
    tokens[0, 2] = sure
    learner._unlikelihood(wrong).backward()
    gradient = learner.model.tok_emb.weight.grad
    assert gradient is not None
    assert bool(torch.isfinite(gradient).all())
    assert gradient[sure].abs().max() > 0


def test_without_a_fault_it_is_an_ordinary_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaultFinder, "find", lambda *_: [])
    go(tmp_path / "a", Counting())
    go(tmp_path / "b", Counting(), unlikelihood=0.0)
    a, b = (Checkpoint.load(tmp_path / name).weights for name in ("a", "b"))
    assert all(torch.equal(weight, b[name]) for name, weight in a.items())


def test_a_new_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    def task(out: str, start: Checkpoint | None = None, **changes: object) -> Task:
        run = tiny_run(**changes)
        return Task(run, tmp_path / out, Counting(), Counting(), TOKENIZER, start=start)

    train(task("first", steps=40, ema=0.9))
    first = Checkpoint.load(tmp_path / "first")
    result = train(task("second", first, steps=1, warmup=9, ema=0.9))
    second = Checkpoint.load(tmp_path / "second")
    assert result.step == 1
    assert result.losses["valid_loss"] == pytest.approx(first.losses["valid_loss"], abs=0.2)
    assert second.before == {"steps": 40, "tokens": 40 * 64, "seconds": first.trained}
    assert second.summary()["steps"] == 41
    assert second.average is not None
    assert first.average is not None
    for name, weight in first.average.items():  # and not the ones that are not averaged
        assert (second.weights[name] - weight).abs().max() < 3e-3, name
    resumed = train(
        Task(
            tiny_run(steps=2, ema=0.9), tmp_path / "second", Counting(), Counting(), TOKENIZER,
            saved=second,
        )
    )  # fmt: skip
    assert resumed.step == 2
    assert Checkpoint.load(tmp_path / "second").summary()["steps"] == 42


@pytest.mark.parametrize(
    ("changes", "devices", "message"),
    [
        ({}, 2, "there are 2 processes: unlearning is for one"),
        ({"prompts": ()}, 1, "prompts is empty"),
    ],
)
def test_what_cannot_be_told_is_named(
    changes: dict[str, object], devices: int, message: str
) -> None:
    learner = learner_of(**changes)
    with pytest.raises(InvalidArgument, match=message):
        preflight.check(learner.run, Counting(), None, learner.model, TOKENIZER, devices)
