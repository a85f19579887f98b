"""Where the disk is full, each step says which file it could not write, and leaves none half."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tinyzh.errors import FileError
from tinyzh.train.corpus import CorpusOptions, build_corpus
from tinyzh.train.shards import prepare

resource = pytest.importorskip("resource", reason="limits the size of files: not on this system")

TOKENIZER = Path(__file__).parents[1] / "data" / "zh.model"
PLAIN = CorpusOptions(near_duplicates=0, processes=1, plot=False)


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file can have more bytes than that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails(work: Callable[[], object], path: Path, limit: int = 100) -> None:
    before = path.read_bytes() if path.exists() else None
    with full_disk(limit), pytest.raises(FileError) as raised:
        work()
    assert str(raised.value) == f"{path}: cannot be written: File too large"
    assert (path.read_bytes() if path.exists() else None) == before
    assert not list(path.parent.glob("*.part"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = random.Random(1)
    text = "\n".join("".join(rng.choices("从前有一只小猫狗", k=60)) for _ in range(400))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    build_corpus([tmp_path / "a.txt"], tmp_path / "corpus", options=PLAIN, progress=False)
    return tmp_path / "corpus"


def test_a_corpus(corpus: Path) -> None:
    again = [corpus.parent / "a.txt"]
    fails(
        lambda: build_corpus(again, corpus, options=PLAIN, progress=False),
        corpus / "train.jsonl.gz",
    )


def test_tokens(corpus: Path, tmp_path: Path) -> None:
    fails(
        lambda: prepare(corpus, TOKENIZER, tmp_path / "tokens", processes=1, progress=False),
        tmp_path / "tokens" / "train_000.bin",
        limit=16_000,  # enough for meta.json and the tokenizer
    )


def test_a_tokenizer(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf", reason="reads models; pip install 'tinyzh[train]'")
    from tinyzh.train.tokenizer import train_tokenizer

    fails(
        lambda: train_tokenizer(corpus, tmp_path, vocab_size=270, progress=False),
        tmp_path / "tokenizer.model",
    )


def test_a_checkpoint_and_a_log(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")
    from tiny_runs import tiny_run
    from tinyzh.train.checkpoint import Checkpoint
    from tinyzh.train.log import Log
    from tinyzh.train.model import Llama

    run, path = tiny_run(), tmp_path / "checkpoint.pt"
    saved = Checkpoint(run, 1, 1.0, Llama(run.model).state_dict())
    saved.save(path)
    fails(lambda: saved.save(path), path)
    log = Log(tmp_path, 0)
    log.tell("", ["猫" * 33])
    fails(lambda: log.tell("", ["猫"]), tmp_path / "samples.txt")
