"""tinyzh train: its help, its mistakes, and a recipe that goes on where it was."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from tinyzh.cli import main

STEPS = ("corpus", "tokenizer", "prepare", "model", "export", "evaluate", "builtin")


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    return code, *capsys.readouterr()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "train", "--help")
    assert code == 0
    for step in STEPS:
        assert f"    {step}" in out
        code, page, _ = call(capsys, "train", step, "--help")
        assert code == 0
        assert page.startswith(f"usage / 用法: tinyzh train {step} [-h]")
        assert page.count("用法") == 1
        assert "--" in page
        assert "文件" in page  # both languages
        code, _, err = call(capsys, "train", step, "--nonsense")
        assert code == 2
        assert f"(tinyzh train {step} --help shows what is possible)" in err


def test_no_step(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "train")
    assert code == 2
    assert "no step given: corpus, tokenizer" in err
    assert err.count("\n") == 1


def test_what_would_be_ignored_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = ("corpus", tmp_path / "a.txt", "--out", tmp_path / "c")
    (tmp_path / "a.txt").write_text("从前有一只小猫，它很喜欢唱歌。\n", encoding="utf-8")
    code, _, err = call(capsys, "train", *corpus, "--stories", "9")
    assert code == 2
    assert "--stories is how many to draw with --builtin" in err
    code, _, err = call(capsys, "train", *corpus, "--templates", "repertoire")
    assert (code, "--templates is of those that --builtin draws" in err) == (2, True)
    assert not (tmp_path / "c").exists()


def test_which_templates_are_drawn_is_said_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="draws the plot; pip install 'tinyzh[train]'")
    begun = {}
    for name, *arguments in (("known", "--templates", "repertoire"), ("rest", "--opening", "0")):
        corpus = ("corpus", "--builtin", "--stories", "400", "--out", tmp_path / name)
        code, _, err = call(capsys, "train", *corpus, *arguments)
        assert code == 0, err
        with gzip.open(tmp_path / name / "train.jsonl.gz", "rt", encoding="utf-8") as file:
            stories = [json.loads(line)["text"] for line in file]
        begun[name] = sum(s.startswith(("从前", "很久以前")) for s in stories) / len(stories)
    assert begun["known"] == 1.0
    assert begun["rest"] < 0.3


def test_how_files_are_read_is_said_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="draws the plot; pip install 'tinyzh[train]'")
    story = "从前有一只小猫，它很喜欢唱歌。"
    line = json.dumps({"正文": story, "text": "不是这个"}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(line.encode("gb18030"))
    asked = ("--near-duplicates", "0", "--valid", "0", "--encoding", "gb18030", "--field", "正文")
    out = tmp_path / "c"
    code, _, err = call(capsys, "train", "corpus", tmp_path / "a.jsonl", "--out", out, *asked)
    assert code == 0, err
    with gzip.open(out / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        assert json.loads(file.read()) == {"text": story}
    code, _, err = call(capsys, "train", "corpus", tmp_path, "--out", out, "--encoding", "utf9")
    assert code == 2
    assert err.startswith("tinyzh: error: encoding is 'utf9', which Python does not know")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "tokens", "--tokenizer", "t", "--out", "run"),
        ("export", "run", "--out", "x.bin"),
        ("builtin", "--out", "x"),
        ("evaluate", "run.pt", "kept_back.txt"),
    ],
    ids=lambda a: a[0],
)
def test_without_the_extra(
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept_back.txt").write_text("从前有一只小兔子。\n", encoding="utf-8")
    for name in [n for n in sys.modules if n.startswith("tinyzh.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    code, _, err = call(capsys, "train", *arguments)
    assert code == 1
    assert err == "tinyzh: error: torch is not installed: pip install 'tinyzh[train]'\n"


def test_the_package_does_not_import_training() -> None:
    import subprocess

    import tinyzh

    package = str(Path(tinyzh.__file__).parents[1])
    program = (
        f"import sys; sys.path.insert(0, {package!r}); import tinyzh.cli, tinyzh.model; "
        "sys.exit(any(n.startswith(('tinyzh.train', 'torch')) for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


TOKENIZER = Path(__file__).parents[1] / "data" / "zh.model"
RECIPE = [
    f"--set={setting}"
    for setting in (
        "dim=16", "hidden_dim=21", "n_layers=1", "n_heads=2", "n_kv_heads=1", "vocab_size=600",
        "seq_len=64", "length=32", "batch=2", "steps=4", "long_every=0", "compile=no",
        "threads=1", "evaluations=1", "eval_batches=1", "device=cpu",
        "consistent.steps=3", "consistent.told=4", "consistent.batch=2",
        "consistent.compile=no", "consistent.device=cpu", "consistent.evaluations=1",
        "repertoire.steps=2", "repertoire.batch=2", "repertoire.evaluations=1",
    )
]  # fmt: skip


def test_the_recipe_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
    pytest.importorskip("rensa", reason="finds near duplicates; pip install 'tinyzh[train]'")
    import torch
    from tinyzh.train.checkpoint import Checkpoint
    from tinyzh.train.corpus import read_corpus
    from tinyzh.train.log import read_table
    from tinyzh.train.repertoire import repertoire

    out = tmp_path / "out"
    real = tmp_path / "real.txt"
    real.write_text("从前有一只小猫，它很喜欢唱歌。\n" * 2, encoding="utf-8")
    kept_back = tmp_path / "kept_back.txt"
    kept_back.write_text("从前有一只小狗。\n", encoding="utf-8")
    made_of = (
        "train", "builtin", "--out", out, "--stories", "400", "--real", real
    )  # fmt: skip
    recipe = (*made_of, *RECIPE, "--valid-text", kept_back)
    code, text, err = call(capsys, *recipe)
    assert code == 0, err
    assert f"{out / 'consistent'}: 3 steps" in text
    with (out / "export" / "story.bin").open("rb") as file:
        assert file.read(8) == b"24ka\x02\0\0\0"
    assert (out / "export" / "tokenizer.bin").exists()
    card = (out / "export" / "story.md").read_text(encoding="utf-8")
    assert "400 stories drawn" in card
    assert "real.txt" in card
    assert "It began with the weights of a run of 6 steps" in card  # of both before it
    assert "Half of its own tokens were text on which it was kept as it was." in card
    assert "drawn from 3,405 templates" in card
    assert f"drawn from {len(repertoire())} templates" in card
    assert "| keep | 2.0 |" in card
    assert "| told | 4 |" in card
    assert "tmp" not in card  # no paths of the machine

    code, _, err = call(capsys, *recipe)
    assert code == 1
    assert "is not empty: --resume goes on" in err
    # What was made of something else is not taken for what is asked for now.
    other = tmp_path / "other.txt"
    other.write_bytes(real.read_bytes())
    for argument, value, was in (
        ("--stories", 500, 400), ("--repeat", 3, 24), ("--seed", 9, 1), ("--real", other, real)
    ):  # fmt: skip
        code, _, err = call(
            capsys, "train", "builtin", "--out", out, "--resume", argument, str(value)
        )
        assert code == 1
        assert f"{argument} is {value}, and {out / 'corpus'} was made with {was}: leave" in err

    made = (out / "tokenizer" / "tokenizer.model").stat().st_mtime_ns
    # The configuration is the run's, and so are the texts that it is measured on.
    kept_back.unlink()
    later = [s for s in RECIPE if "consistent." in s or "repertoire." in s]
    code, text, err = call(capsys, *made_of, "--resume", "--set=steps=6", *later)
    assert code == 0, err
    assert f"{out / 'consistent'}: 3 steps" in text
    assert Checkpoint.load(out / "repertoire").before["steps"] == 6  # they began anew
    assert Checkpoint.load(out / "consistent").before["steps"] == 8
    known = list(read_corpus(out / "repertoire_corpus"))
    assert len(known) > 300
    assert all(story.startswith(("从前", "很久以前")) for story in known)
    drawn = [s for s in read_corpus(out / "corpus") if "它很喜欢唱歌" not in s]
    assert sum(s.startswith("从前") for s in drawn) < 0.35 * len(drawn)
    settings = Checkpoint.load(out / "consistent").run.training
    assert (settings.keep, settings.dropout, settings.batch) == (2.0, 0.0, 2)
    # On the first corpus the later runs stay what the first one has become.
    first = Checkpoint.load(out / "run").model().state_dict()
    for run in ("repertoire", "consistent"):
        kept = Checkpoint.load(out / run).kept
        assert kept is not None
        assert all(torch.equal(weight, first[name]) for name, weight in kept.items())
    rows = read_table(out / "run" / "log.csv")
    assert [row["step"] for row in rows if "bits_per_character" in row] == [4, 6]
    assert (out / "tokenizer" / "tokenizer.model").stat().st_mtime_ns == made

    # A run of one's own begins with the weights of the first.
    other = ("train", "model", out / "data", "--out", tmp_path / "other", "--from", out / "run")
    code, text, err = call(capsys, *other, "--set=steps=5")
    assert code == 0, err
    call(capsys, "train", "export", tmp_path / "other", "--out", tmp_path / "other.bin")
    card = (tmp_path / "other.md").read_text(encoding="utf-8")
    assert "It began with the weights" in card
    assert not any(word in card for word in ("kept to", "| keep |", "| told |", "unlikelihood"))
    # Or it keeps to what that was.
    keeping = (*other[:4], tmp_path / "kept", *other[5:], "--keep", out / "repertoire_data")
    code, text, err = call(capsys, *keeping, "--set=steps=2")
    assert code == 0, err
    assert Checkpoint.load(tmp_path / "kept").kept is not None
    code, _, err = call(capsys, *keeping, "--resume", "--from", out / "run")
    assert code == 2
    foreign = tmp_path / "foreign"
    code, _, err = call(
        capsys, "train", "prepare", out / "corpus", "--tokenizer", TOKENIZER, "--out", foreign
    )
    assert code == 0, err
    code, _, err = call(capsys, *other[:4], tmp_path / "fifth", *other[5:], "--keep", foreign)
    assert (code, f"--keep {foreign}: was prepared with another tokenizer" in err) == (2, True), err
    saved = Checkpoint.load(tmp_path / "other")
    assert (saved.step, saved.before["steps"], saved.summary()["steps"]) == (5, 6, 11)
    assert "bits_per_character" in saved.losses  # held-out texts come along
    for arguments, message in (
        (("--resume",), "--from begins a run and --resume goes on with one: leave one out"),
        (("--set=dim=32", "--out", tmp_path / "third"), "of another shape than dim 32 (not 16)"),
    ):
        code, _, err = call(capsys, *other, *arguments)
        assert (code, message in err) == (2, True), err
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "checkpoint.pt").write_bytes((out / "run/checkpoint.pt").read_bytes())
    alone = (*other[:4], tmp_path / "alone", "--from", tmp_path / "moved", "--set=steps=1")
    assert call(capsys, *alone)[0] == 0  # a checkpoint alone
    (tmp_path / "moved" / "tokenizer.model").write_bytes(TOKENIZER.read_bytes())
    code, _, err = call(capsys, *alone[:4], tmp_path / "fourth", *alone[5:])
    assert (code, "was trained with another tokenizer than the one" in err) == (2, True), err


def test_the_recipe_begins_with_what_may_be_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
    out = tmp_path / "out"
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    for arguments, expected in (
        (("--set=lrr=1",), (2, "unknown key lrr; is it lr?")),
        (("--set=consistent.dim=640",), (2, "a later run has the shape of the first")),
        (("--set=repertoire.dim=640",), (2, "repertoire.dim=640: a later run has the shape")),
        (("--set=consistent.prompts=[]",), (2, "prompts is empty")),
        (("--set=seq_len=16", "--set=length=16", "--set=long_every=0"), (2, "at least 32 for")),
        (("--set=consistent.tld=1",), (2, "unknown key tld; is it told?")),
        (("--config", "tiny"), (2, "no configuration 'tiny'")),
        (("--valid-text", tmp_path / "none.txt"), (1, "none.txt: no such file")),
        (("--valid-text", tmp_path / "empty.txt"), (2, "no stories in")),
        (("--resume",), (1, "out: nothing there to --resume: leave that out to begin")),
    ):
        code, _, err = call(
            capsys, "train", "builtin", "--out", out, "--stories", "100", *arguments
        )
        assert (code, expected[1] in err) == (expected[0], True), err
        assert not out.exists()


def test_the_recipe_alone_is_that_of_the_built_in_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many stories are drawn, and how often real ones are read, stands in one place."""
    pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
    from tinyzh.errors import InvalidArgument
    from tinyzh.train import pipeline

    asked: dict[str, object] = {}

    def record(out: Path, **options: object) -> None:
        asked.clear()
        asked.update(options)
        raise InvalidArgument("far enough")

    monkeypatch.setattr(pipeline, "train_builtin", record)
    assert call(capsys, "train", "builtin", "--out", tmp_path)[0] == 2
    assert (asked["repeat"], asked["stories"], asked["seed"]) == (None, None, None)
    assert call(capsys, "train", "builtin", "--out", tmp_path, "--repeat", "3")[0] == 2
    assert asked["repeat"] == 3
