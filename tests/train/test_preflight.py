"""What does not fit together is said before anything is computed or written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tinyzh.errors import FileMissing, InvalidArgument, TinyzhError
from tinyzh.train.corpus import CorpusOptions, build_corpus
from tinyzh.train.shards import prepare

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")

from tiny_runs import SHAPE, TOKENIZER, Counting, tiny_run  # noqa: E402
from tinyzh.train.checkpoint import Checkpoint  # noqa: E402
from tinyzh.train.errors import TrainingError  # noqa: E402
from tinyzh.train.log import read_table  # noqa: E402
from tinyzh.train.loop import Progress, Result, Silence, Task, train  # noqa: E402
from tinyzh.train.pipeline import train_model  # noqa: E402

SETTINGS = [
    f"{name}={json.dumps(value)}"
    for name, value in (dataclasses.asdict(SHAPE) | dataclasses.asdict(tiny_run().training)).items()
    if name not in ("vocab_size", "norm_eps", "rope_theta", "minutes")
]
DATA = TOKENIZER.parent


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of very few stories, one of them for validation."""
    folder = tmp_path_factory.mktemp("tokens")
    stories = [f"从前有{'一只小猫，' * (i + 1)}它叫小花。" for i in range(12)]
    (folder / "a.txt").write_text("\n".join(stories), encoding="utf-8")
    options = CorpusOptions(near_duplicates=0, processes=1, plot=False)
    build_corpus([folder / "a.txt"], folder / "corpus", options=options, progress=False)
    prepare(folder / "corpus", TOKENIZER, folder / "tokens", processes=1, progress=False)
    return folder / "tokens"


@pytest.fixture
def go(tokens: Path, tmp_path: Path) -> Callable[..., Result]:
    return partial(run_of, tokens, tmp_path / "run")


def run_of(data: Path, out: Path, *settings: str, **options: object) -> Result:
    return train_model(data, out, settings=[*SETTINGS, *settings], **options)  # type: ignore[arg-type]


def test_a_learner_with_a_few_stories_gets_a_model(
    go: Callable[..., Result], tmp_path: Path
) -> None:
    """One held-out story, shorter than the rows that are learnt from; the tokens' own tokenizer."""
    assert go("length=32", "evaluations=1").finished
    assert 3 < read_table(tmp_path / "run" / "log.csv")[-1]["valid_loss"] < 10
    assert Checkpoint.load(tmp_path / "run").run.model.vocab_size == 640
    copy = tmp_path / "run" / "tokenizer.model"
    assert copy.read_bytes() == TOKENIZER.read_bytes()


def test_without_held_out_text_stories_are_told_all_the_same(tmp_path: Path) -> None:
    class Nothing(Counting):
        longest = 0

        def __init__(self) -> None: ...

    result = train(Task(tiny_run(), tmp_path, Counting(), Nothing(), TOKENIZER))
    assert result.finished
    assert result.losses == {}
    assert (tmp_path / "samples.txt").read_text(encoding="utf-8").count("## step ") == 2


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("seq_len=2000 length=1500", InvalidArgument, "no shard of 'train' has more than 1500 tok"),
        ("seq_len=2000 batch=256 long_every=3", InvalidArgument, "has more than 2000 tokens"),
        (f'prompts=["{"小猫" * 40}"]', InvalidArgument, r"prompts has one of \d+ tokens, '小猫"),
        ("vocab_size=700", InvalidArgument, "vocab_size is 700, but .*tokens was made with .* 640"),
        ("device=gpu", TrainingError, "device is 'gpu': "),
        ("device=mps", TrainingError, "device is 'mps': .{,200}; device=auto"),
        ("device=meta", TrainingError, "device is 'meta': not one to train on"),
        ("precision=float16", TrainingError, "precision is float16, which is for GPUs"),
        (f"dim={2**20}", TrainingError, "out of memory: the model and a batch of 4 × 16 tokens"),
    ],
    ids=lambda x: x.split("=")[0] if isinstance(x, str) else "",
)
def test_what_does_not_fit(
    go: Callable[..., Result],
    tmp_path: Path,
    setting: str,
    error: type[TinyzhError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as raised:
        go(*setting.split(" "), "evaluations=1")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    assert not (tmp_path / "run").exists()


def test_every_process_knows_what_does_not_fit(
    go: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only the first one, whose end the others would not understand."""
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(InvalidArgument, match=r"prompts has one of \d+ tokens"):
        go(f'prompts=["{"小猫" * 40}"]')


def test_texts_to_measure_on_have_stories(go: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"no stories in .*empty\.txt"):
        go(valid_texts=[tmp_path / "empty.txt"])
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_fit_the_memory(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPE, seq_len=2**20)
    run = tiny_run(shape, batch=10**6, length=2**20, accumulate=5)
    with pytest.raises(TrainingError, match=r"out of memory: .* 1000000 × 1048576 .*accumulate=10"):
        train(Task(run, tmp_path, Counting(), Counting(), TOKENIZER))


class Heard(Silence):
    """What was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_the_first_words_are_what_is_about_to_be_done(tmp_path: Path) -> None:
    progress: Progress = (heard := Heard())
    train(Task(tiny_run(steps=50), tmp_path, Counting(), Counting(), TOKENIZER), progress)
    assert heard.said[0] == (
        "13,872 parameters on cpu in float32, not compiled; 4 × 16 tokens a step, 25 steps a pass "
        "over the text; budget 50 steps, 2.0 passes"
    )


# ---- the tokenizer ------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_refused_run_leaves_the_other_as_it_was(
    go: Callable[..., Result], tmp_path: Path
) -> None:
    go("steps=2")
    before = contents(tmp_path / "run")
    for refused in ({}, {"tokenizer": DATA / "nfkc.model"}, {"tokenizer": DATA / "nowhere"}):
        with pytest.raises(TinyzhError):
            go("steps=4", **refused)
        with pytest.raises(TinyzhError):
            go("steps=4", "dim=24", resume=True, **refused)
    assert contents(tmp_path / "run") == before


def test_a_tokenizer_of_another_training_is_refused(
    go: Callable[..., Result], tokens: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match=r"not the tokenizer that .*tokens was made with"):
        go(tokenizer=DATA / "nfkc.model")
    assert go("steps=1", tokenizer=DATA / "zh.bin").finished
    shutil.copytree(tokens, tmp_path / "old")
    for path in (tmp_path / "old").glob("tokenizer.*"):
        path.unlink()
    with pytest.raises(FileMissing, match="holds no tokenizer"):
        run_of(tmp_path / "old", tmp_path / "other")


# ---- compiling ----------------------------------------------------------------------------------


def cannot_compile(*args: object, **options: object) -> object:
    def fails(*args: object) -> object:
        raise RuntimeError("Python.h: No such file or directory. Run again with\nTORCH_LOGS=1")

    return fails


def test_where_compiling_fails_the_run_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "sh")  # some program
    monkeypatch.setattr(torch, "compile", cannot_compile)

    def compiled(how: str) -> tuple[Result, list[str]]:
        heard = Heard()
        run, out = tiny_run(compile=how), tmp_path / how
        result = train(Task(run, out, Counting(), Counting(), TOKENIZER), heard)
        return result, heard.said

    result, said = compiled("auto")
    assert result.finished
    assert said[0] == "not compiled, since that failed: Python.h: No such file or directory"
    assert ", not compiled; " in said[1]
    assert Checkpoint.load(tmp_path / "auto").resolved == {
        "precision": "float32", "device": "cpu", "compile": "no",
    }  # fmt: skip
    with pytest.raises(TrainingError, match=r"^compile is yes, and failed: Python\.h: [^\n]+$"):
        compiled("yes")
    assert not (tmp_path / "yes").exists()


def test_compiled_it_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as always; that the processor's own compiler does its part is for CI to see."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    shape, logs = dataclasses.replace(SHAPE, n_layers=1), {}
    for how in ("no", "yes"):
        run, heard = tiny_run(shape, compile=how, dropout=0.1, locked_dropout=True), Heard()
        train(Task(run, tmp_path / how, Counting(), Counting(), TOKENIZER), heard)
        logs[how] = [row["train_loss"] for row in read_table(tmp_path / how / "log.csv")]
        assert (", compiled; " in heard.said[0]) == (how == "yes")
    assert logs["yes"] == pytest.approx(logs["no"], rel=1e-4)
    assert Checkpoint.load(tmp_path / "yes").resolved["compile"] == "yes"
