"""docs/training.md: its ten commands, run in order, end in a story."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
pytest.importorskip("rensa", reason="finds near duplicates; pip install 'tinyzh[train]'")

from documented import PAGE, commands
from tinyzh.cli import main
from tinyzh.train import config
from tinyzh.train.stories import FOLDER, stories

#: What makes it a matter of seconds.
SMALLER = {
    ("train", "tokenizer"): ["--vocab-size", "500"],
    ("train", "prepare"): ["--processes", "1"],
    ("train", "model"): [
        f"--set={setting}"
        for setting in (
            "dim=16", "hidden_dim=21", "n_layers=1", "n_heads=2", "n_kv_heads=1",
            "seq_len=64", "length=32", "batch=2", "steps=4", "minutes=0", "threads=1",
            "compile=no", "evaluations=1", "eval_batches=1", "device=cpu",
        )
    ],
}  # fmt: skip


def test_there_are_ten() -> None:
    assert len(commands()) == 10


def test_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [text.replace("\n", "") for text in stories(FOLDER, 64, seed=1)]
    Path("stories").mkdir()
    Path("stories", "a.txt").write_text("\n".join(texts[:60]), encoding="utf-8")
    Path("kept_back.txt").write_text("\n".join(texts[60:]), encoding="utf-8")
    runs = 0
    for command in commands():
        smaller = list(SMALLER.get((command[0], command[1]), []))
        if command[:2] == ["train", "model"]:
            runs += 1
            smaller[smaller.index("--set=steps=4")] = f"--set=steps={4 * runs}"
        capsys.readouterr()
        assert main([*command, *smaller]) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        if command[:2] == ["train", "model"]:
            assert f"{4 * runs} steps" in out
        elif command[:2] == ["train", "evaluate"]:
            assert re.search(r"stories +4\n", out)
            assert re.search(r"bits per character +\d+\.\d{4}\n", out)
        elif command[0] == "generate":
            assert out.startswith("从前")
            assert len(out.strip()) > len("从前")
    card = Path("work", "story.md").read_text(encoding="utf-8")
    assert "8 steps" in card
    assert "| n_layers | 1 |" in card
    assert {p.name for p in Path("work", "hf").iterdir()} >= {"model.safetensors", "tokenizer.json"}


def test_the_table_of_configurations() -> None:
    for name, millions in re.findall(r"^\| `(\w+)` \| ([\d.]+) million", PAGE, re.MULTILINE):
        m = config.load(name).model
        layer = 2 * m.dim * m.dim + 2 * m.dim * m.kv_dim + 3 * m.dim * m.hidden_dim + 2 * m.dim
        assert round((m.vocab_size * m.dim + m.n_layers * layer + m.dim) / 1e6, 1) == float(
            millions
        )
