"""Measuring: any checkpoint, on any text."""

from __future__ import annotations

import gzip
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tinyzh
from tinyzh.cli import main
from tinyzh.errors import CheckpointError, InvalidArgument
from tinyzh.train.evaluate import evaluate

STORIES = ["从前有一只小兔子。", "有一天，下雨了。"]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["train", "evaluate", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "kept_back.txt").write_text("\n".join(STORIES), encoding="utf-8")
    return tmp_path / "kept_back.txt"


def test_a_checkpoint_as_text_and_as_json(call: Call, tiny_path: Path, texts: Path) -> None:
    code, out, err = call(tiny_path, texts, "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    with tinyzh.Model(tiny_path) as model:
        scores = [model.score(story) for story in STORIES]
    nats, tokens = -sum(s.total for s in scores), sum(len(s.token_ids) for s in scores)
    characters = sum(map(len, STORIES))
    assert record == {
        "stories": 2,
        "characters": characters,
        "tokens": tokens,
        "loss": pytest.approx(nats / tokens),
        "perplexity": pytest.approx(math.exp(nats / tokens)),
        "bits_per_character": pytest.approx(nats / math.log(2) / characters),
    }
    code, out, err = call(tiny_path, texts)
    assert (code, err) == (0, "")
    assert f"bits per character  {record['bits_per_character']:.4f}\n" in out
    assert evaluate(tiny_path, [texts]).as_dict() == record


def test_texts_of_any_kind(
    call: Call, tiny_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected, _ = call(tiny_path, texts)
    folder = texts.parent
    lines = [json.dumps({"正文": story}) for story in STORIES]
    (folder / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert call(tiny_path, folder / "a.jsonl.gz", "--field", "正文") == (0, expected, "")
    (folder / "a.txt").write_bytes("\n\n".join(STORIES).encode("gb18030"))
    assert call(tiny_path, folder / "a.txt", "--encoding", "gb18030") == (0, expected, "")
    code, _, err = call(tiny_path, folder / "a.txt")
    assert (code, "--encoding" in err) == (1, True)
    code, out, _ = call(tiny_path, folder / "a.txt", "--encoding", "gb18030", "--layout", "file")
    assert (code, out.startswith("stories             1\n")) == (0, True)
    stdin = io.TextIOWrapper(io.BytesIO("\n".join(STORIES).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert call(tiny_path, "-") == (0, expected, "")
    (folder / "a.txt").write_bytes(b" \n")
    with pytest.raises(InvalidArgument, match=r"no stories in .*a\.txt"):
        evaluate(tiny_path, [folder / "a.txt"])


def test_which_story_is_in_hand_is_shown(tiny_path: Path, texts: Path) -> None:
    told: list[tuple[int, int]] = []
    evaluate(tiny_path, [texts], progress=lambda number, total: told.append((number, total)))
    assert told == [(1, 2), (2, 2)]


def test_the_tokenizer_may_be_named(call: Call, tiny_path: Path, texts: Path) -> None:
    expected = call(tiny_path, texts)
    alone = texts.parent / "alone" / "model.bin"
    alone.parent.mkdir()
    alone.write_bytes(tiny_path.read_bytes())
    code, _, err = call(alone, texts)
    assert code == 1
    assert "or name it with --tokenizer" in err
    assert call(alone, texts, "--tokenizer", tiny_path.parent) == expected
    assert call(alone, texts, "--tokenizer", tiny_path.with_name("tokenizer.bin")) == expected


def test_an_archive_of_weights_is_no_model(tiny_path: Path, texts: Path) -> None:
    with pytest.raises(CheckpointError, match="weights without the shape of their model"):
        evaluate(texts.with_name("story.npz"), [texts])


def test_a_run_and_its_folder_for_transformers(call: Call, texts: Path) -> None:
    pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
    pytest.importorskip("safetensors", reason="writes folders; pip install 'tinyzh[train]'")
    from tiny_runs import TOKENIZER, Counting, tiny_run
    from tinyzh.train.export import export
    from tinyzh.train.log import read_table
    from tinyzh.train.loop import Task, train

    run = texts.parent / "run"
    train(Task(tiny_run(), run, Counting(), Counting(), TOKENIZER, STORIES))
    code, out, err = call(run, texts)
    assert (code, err) == (0, "")
    measured = evaluate(run, [texts])
    logged = read_table(run / "log.csv")[-1]["bits_per_character"]
    assert measured.bits_per_character == pytest.approx(logged, rel=1e-5)
    assert call(run / "checkpoint.pt", texts) == (0, out, "")
    assert call(run, texts, "--tokenizer", run) == (0, out, "")
    for format, target in (("hf", texts.parent / "hf"), ("v0", texts.parent / "v0" / "a.bin")):
        export(run, target, format)  # type: ignore[arg-type]
        assert evaluate(target, [texts]).loss == pytest.approx(measured.loss, rel=1e-5)
    (run / "checkpoint.pt").unlink()
    code, _, err = call(run / "checkpoint.pt", texts)
    assert code == 1
    assert "checkpoint.pt: no such file; `tinyzh train model` makes one" in err
