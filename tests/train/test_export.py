"""Exporting: every format opens, with its tokenizer and its card, and nothing of others is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tinyzh
from tinyzh.cli import main

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
pytest.importorskip("google.protobuf", reason="reads tokenizers; pip install 'tinyzh[train]'")

from tiny_runs import SHAPE, TOKENIZER, Counting, tiny_run  # noqa: E402
from tinyzh.train.checkpoint import Checkpoint  # noqa: E402
from tinyzh.train.corpus import CorpusOptions, build_corpus  # noqa: E402
from tinyzh.train.loop import Task, train  # noqa: E402
from tinyzh.train.model_card import _losses  # noqa: E402

IDS = [1, 300, 301, 302, 303]
BOTH = ["tokenizer.bin", "tokenizer.model"]
Export = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = tiny_run(steps=12, precision="auto", compile="auto")
    environment = pytest.MonkeyPatch()
    environment.setenv("CXX", "no-compiler")
    environment.setenv("PATH", "")
    train(Task(settings, folder, Counting(), Counting(), TOKENIZER, ["从前有一只小兔子。"]))
    environment.undo()
    return folder


@pytest.fixture
def export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    """The command's code, the names of the files in the folder, and what it complains of."""

    def call(out: str, *arguments: str | Path, source: Path = run) -> tuple[int, list[str], str]:
        capsys.readouterr()
        code = main(
            ["train", "export", str(source), "--out", str(tmp_path / out), *map(str, arguments)]
        )
        written, err = capsys.readouterr()
        if code == 0:
            assert all(Path(line).exists() for line in written.splitlines())
        folder = (tmp_path / out).parent if "." in out else tmp_path / out
        return code, sorted(p.name for p in folder.iterdir()) if folder.exists() else [], err

    return call


def logits(run: Path) -> np.ndarray:
    with torch.no_grad():
        return Checkpoint.load(run).model()(torch.tensor([IDS]))[0].numpy()


@pytest.mark.parametrize(("format", "start"), [("v0", b""), ("v1", b"24ka\1"), ("v2", b"24ka\2")])
def test_a_bin_file(export: Export, run: Path, tmp_path: Path, format: str, start: bytes) -> None:
    assert export("out/a.bin", "--format", format) == (0, ["a.bin", "a.md", *BOTH], "")
    assert (tmp_path / "out" / "a.bin").read_bytes().startswith(start)
    with tinyzh.Model(tmp_path / "out" / "a.bin", dtype="float32") as model:
        assert model.tokenizer is not None
        assert model.tokenizer.vocab_size == 640
        expected = logits(run)
        tolerance = 0.05 if format == "v2" else 5e-5
        assert np.abs(model.logits(IDS) - expected).max() <= tolerance * np.abs(expected).max()


def test_a_folder_for_transformers(export: Export, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="writes folders; pip install 'tinyzh[train]'")
    code, names, _ = export("hf", "--format", "hf")
    assert code == 0
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.model"} <= set(names)
    assert (tmp_path / "hf" / "README.md").read_text(encoding="utf-8").startswith("---\nlanguage:")


def test_half_precision_is_the_weights_alone(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savez, given = np.savez, set()
    monkeypatch.setattr(np, "savez", lambda file, **a: (given.update(a), savez(file, **a)))
    assert export("out/a.npz", "--format", "fp16") == (0, ["a.npz"], "")
    with np.load(tmp_path / "out" / "a.npz") as arrays:
        assert given == set(arrays)  # nothing that older NumPy would take for one more
        assert arrays["wq"].shape == (SHAPE.n_layers, SHAPE.dim, SHAPE.dim)
        assert {array.dtype for array in arrays.values()} == {np.dtype("float16")}


def test_the_weights_alone_have_neither_tokenizer_nor_card(export: Export, run: Path) -> None:
    for option in ("--tokenizer", "--corpus"):
        code, names, err = export("out/a.npz", "--format", "fp16", option, run)
        assert (code, names) == (2, [])
        assert f"fp16 is the weights alone: leave {option} out" in err


def test_the_tokenizer_may_be_a_file_or_a_folder_but_must_be_there(
    export: Export, run: Path, tmp_path: Path
) -> None:
    for number, named in enumerate((TOKENIZER, run, run / "tokenizer.bin")):
        code, names, _ = export(f"{number}/a.bin", "--tokenizer", named)
        assert (code, names) == (0, ["a.bin", "a.md", *BOTH])
    code, names, err = export("x/a.bin", "--tokenizer", tmp_path / "nowhere")
    assert (code, names) == (1, [])
    assert "nowhere: no such file" in err
    for name in ("checkpoint.pt", "log.csv"):
        (tmp_path / "bare").mkdir(exist_ok=True)
        shutil.copy(run / name, tmp_path / "bare")
    for format, out in (("v2", "x/a.bin"), ("hf", "x")):
        code, names, err = export(out, "--format", format, source=tmp_path / "bare")
        assert (code, names) == (1, [])
        assert "bare: holds no tokenizer.model or tokenizer.bin" in err
    other = Path(tinyzh.__file__).parent / "data" / "story.tokenizer.bin"
    code, names, err = export("x/a.bin", "--tokenizer", other)
    assert (code, names) == (1, [])
    assert "has 3000 pieces, the model's vocabulary 640" in err


def test_what_is_named_for_the_card_must_be_there(export: Export, tmp_path: Path) -> None:
    code, names, err = export("out/a.bin", "--corpus", tmp_path / "nowhere")
    assert (code, names) == (1, [])
    assert "report.json: no such file; a corpus of `tinyzh train corpus` has one" in err
    for damage in ("", '{"seed"', "[]", '{"seed": 1}'):
        (tmp_path / "report.json").write_text(damage, encoding="utf-8")
        code, names, err = export("out/a.bin", "--corpus", tmp_path)
        assert (code, names) == (1, [])
        assert "report.json: damaged (" in err


def test_the_card_does_not_replace_the_model(export: Export) -> None:
    code, names, err = export("out/a.md")
    assert (code, names) == (2, [])
    assert "a.md: where the model's card goes; end the name in .bin" in err


def test_the_run_and_its_tokenizer_are_not_replaced(
    export: Export, run: Path, tmp_path: Path
) -> None:
    """Whatever they are called by; and no model goes where a tokenizer is looked for."""
    shutil.copytree(run, tmp_path / "run")
    shutil.copy(TOKENIZER, tmp_path / "run" / "own.model")
    own = tmp_path / "run" / "own.model"
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    for out, options in (
        ("run/checkpoint.pt", ()),
        ("run/../run/checkpoint.pt", ("--format", "fp16")),
        ("run/tokenizer.bin", ()),
        ("run/tokenizer.model", ()),
        ("run/own.model", ("--tokenizer", own)),
    ):
        code, _, err = export(out, *options, source=tmp_path / "run")
        assert (code, f"{Path(out).name}: what the export is made of" in err) == (2, True), out
    code, names, err = export("out/tokenizer.bin")
    assert (code, names) == (2, [])
    assert "tokenizer.bin: where the model's tokenizer goes; give another name" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_two_models_in_one_folder(export: Export, run: Path, tmp_path: Path) -> None:
    """Each keeps its own tokenizer, also when the first is exported once more."""
    assert export("out/a.bin")[0] == 0
    first = (tmp_path / "out" / "tokenizer.model").read_bytes()
    own = ["b.tokenizer.bin", "b.tokenizer.model"]
    other = tmp_path / "other"
    other.mkdir()
    for suffix in (".model", ".bin"):  # of another training, with as many pieces
        shutil.copy(TOKENIZER.with_suffix(suffix), other / f"tokenizer{suffix}")
    with (other / "tokenizer.model").open("ab") as file:
        file.write(b"\x1a\x00")
    for _ in range(2):
        code, names, _ = export("out/b.bin", "--tokenizer", other)
        assert (code, names) == (0, ["a.bin", "a.md", "b.bin", "b.md", *own, *BOTH])
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == first
    for name, expected in (("a", "tokenizer.model"), ("b", "b.tokenizer.model")):
        with tinyzh.Model(tmp_path / "out" / f"{name}.bin") as model:
            assert model.tokenizer is not None
            assert model.tokenizer.path.name == expected
    # b.tokenizer.model is what is looked for first, so it follows b.bin.
    assert export("out/b.bin")[0] == 0
    assert (tmp_path / "out" / "b.tokenizer.model").read_bytes() == first
    assert export("out/a.bin")[1] == ["a.bin", "a.md", "b.bin", "b.md", *own, *BOTH]


def test_the_card(export: Export, run: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    (tmp_path / "texts.txt").write_text("从前有一只小猫，它很喜欢唱歌。\n", encoding="utf-8")
    plain = CorpusOptions(near_duplicates=0, processes=1, plot=False)
    build_corpus([tmp_path / "texts.txt"], corpus, options=plain, progress=False)
    assert export("out/a.bin", "--corpus", corpus, "--licence", "CC0-1.0")[0] == 0
    card = (tmp_path / "out" / "a.md").read_text(encoding="utf-8")
    assert "| n_layers | 2 |" in card
    assert "- texts.txt\n- train: 1 story, 15 characters" in card
    assert "12 steps, 768 tokens, " in card
    assert " seconds.\n" in card  # not 0 minutes
    resolved = Checkpoint.load(run).resolved
    assert resolved["precision"] in ("float32", "bfloat16")  # what this processor has
    for line in (
        f"| precision | {resolved['precision']} |",
        "| compile | no |",
        "| device | cpu |",
    ):
        assert line in card
    assert "auto" not in card
    assert card.endswith("## Licence\n\nCC0-1.0\n")
    table = card.split("## Losses")[1]
    assert "| steps | tokens | train | held out | bits/character |" in table
    rows = [line for line in table.splitlines() if line.startswith(("| 6 |", "| 12 |"))]
    assert [len(row.split("|")) for row in rows] == [7, 7]
    assert "Not measured." not in card


def test_the_card_has_what_was_measured(tmp_path: Path) -> None:
    """Held-out stories without a split for validation, say."""
    table = tmp_path / "log.csv"
    head = "step,tokens,minutes,lr,train_loss,tokens_per_second,valid_loss,bits_per_character\n"
    for cells, columns, row in (
        ("3.5,5.25", "held out | bits/character", "3.5000 | 5.2500"),
        ("3.5,", "held out", "3.5000"),
        (",5.25", "bits/character", "5.2500"),
    ):
        table.write_text(f"{head}10,640,1,1e-3,4,,{cells}\n20,1280,2,1e-3,4,,,\n")
        said, _, heads, rule, *rows = _losses(table)
        assert ("was held out" in said) == ("held out" in columns)
        assert ("bits a character" in said) == ("bits" in columns)
        assert heads == f"| steps | tokens | train | {columns} |"
        assert rule.count("---:") == heads.count("|") - 1
        assert rows == [f"| 10 | 640 | 4.0000 | {row} |"]
    table.write_text(head)
    assert _losses(table) == ["Not measured."]
