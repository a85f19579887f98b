"""Shards: the tokens of the corpus, whatever interrupts their making."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tinyzh.errors import FileError, FileMissing, InvalidArgument
from tinyzh.tokenizer import BinTokenizer
from tinyzh.train import shards
from tinyzh.train.corpus import CorpusOptions, build_corpus, read_corpus
from tinyzh.train.dataset import TokenDataset
from tinyzh.train.shards import ShardReport, prepare

DATA = Path(__file__).resolve().parents[1] / "data"
TOKENIZER = DATA / "zh.bin"
WITH_THEM = ["meta.json", "tokenizer.bin", "tokenizer.model"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    options = CorpusOptions(near_duplicates=0, processes=1, plot=False)
    build_corpus([], folder, builtin=60, options=options, progress=False)
    return folder


def make(corpus: Path, out: Path, tokenizer: Path = TOKENIZER, **options: int) -> ShardReport:
    changed = {"processes": 1, "shard_tokens": 2000, **options}
    return prepare(corpus, tokenizer, out, progress=False, **changed)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("split", ["train", "valid"])
def test_the_stories_are_in_the_shards(corpus: Path, tmp_path: Path, split: str) -> None:
    report = make(corpus, tmp_path)
    texts, data = list(read_corpus(corpus, split)), TokenDataset(tmp_path, split)
    tokenizer = BinTokenizer(TOKENIZER)
    expected = [i for text in texts for i in tokenizer.encode(text, bos=True)]
    assert np.concatenate(data.shards).tolist() == expected
    assert {shard.dtype for shard in data.shards} == {np.dtype("<u2")}
    counts = report.splits[split]
    assert len(data) == counts.tokens == len(expected)
    assert counts.stories == len(texts) == expected.count(1)
    assert counts.characters == sum(map(len, texts))
    assert data.vocab_size == report.vocab_size == 640
    if split == "train":
        assert len(data.shards) > 4
        assert all(shard[0] == 1 for shard in data.shards)  # no story is cut in two


def test_processes_make_no_difference(corpus: Path, tmp_path: Path) -> None:
    make(corpus, tmp_path / "a")
    make(corpus, tmp_path / "b", processes=2)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_one_shard_is_mapped(corpus: Path, tmp_path: Path) -> None:
    make(corpus, tmp_path, shard_tokens=10**6)
    assert sorted(files(tmp_path)) == [*WITH_THEM, "train_000.bin", "valid_000.bin"]
    assert isinstance(TokenDataset(tmp_path).shards[0], np.memmap)


def test_an_interrupted_run_goes_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(corpus, tmp_path / "whole")
    write, out = shards._write, tmp_path / "halted"

    def failing(tokenizer: Path, job: shards.Job) -> None:
        if job[0].name == "train_003.bin":
            job[0].with_name("train_003.bin.part").write_bytes(b"half")
            raise KeyboardInterrupt
        write(tokenizer, job)

    monkeypatch.setattr(shards, "_write", failing)
    with pytest.raises(KeyboardInterrupt):
        make(corpus, out)
    assert sorted(files(out)) == [
        *WITH_THEM, "train_000.bin", "train_001.bin", "train_002.bin", "train_003.bin.part"
    ]  # fmt: skip
    with pytest.raises(FileMissing, match="not finished"):
        TokenDataset(out)
    before = (out / "train_001.bin").stat().st_mtime_ns

    monkeypatch.setattr(shards, "_write", write)
    report = make(corpus, out)
    assert report.kept == 3
    assert (out / "train_001.bin").stat().st_mtime_ns == before
    assert files(out) == files(tmp_path / "whole")
    # And what is finished is not looked at again.
    again = make(corpus, out)
    assert again.splits == report.splits
    assert again.kept == sum(len(split.shards) for split in report.splits.values())
    # A shard that was lost is made again.
    (out / "train_002.bin").unlink()
    assert make(corpus, out).kept == again.kept - 1
    assert files(out) == files(tmp_path / "whole")


def test_the_tokens_know_their_tokenizer(corpus: Path, tmp_path: Path) -> None:
    report = make(corpus, tmp_path / "t", shard_tokens=10**6)
    assert "1 shard\n" in str(report)
    data = TokenDataset(tmp_path / "t")
    assert data.tokenizer() == tmp_path / "t" / "tokenizer.model"
    for name in ("tokenizer.model", "tokenizer.bin"):
        assert (tmp_path / "t" / name).read_bytes() == (
            DATA / f"zh{Path(name).suffix}"
        ).read_bytes()
    # Another file of the same, either form; but none of another training.
    for suffix in (".bin", ".model"):
        assert data.tokenizer(DATA / f"zh{suffix}") == DATA / f"zh{suffix}"
    shutil.copy(DATA / "zh.model", tmp_path / "tokenizer.model")
    with (tmp_path / "tokenizer.model").open("ab") as file:
        file.write(b"\x1a\x00")  # an empty field: other bytes, as many pieces
    with pytest.raises(InvalidArgument, match=r"tokenizer\.model: not the tokenizer that .*t was"):
        data.tokenizer(tmp_path)
    # Tokens of before that knew only the hash.
    for name in ("tokenizer.model", "tokenizer.bin"):
        (tmp_path / "t" / name).unlink()
    with pytest.raises(FileMissing, match=r"holds no tokenizer.*--tokenizer"):
        data.tokenizer()
    make(corpus, tmp_path / "t", shard_tokens=10**6)
    assert data.tokenizer().exists()


def test_shards_of_other_inputs_are_not_mixed(corpus: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other.bin"
    make(corpus, out)
    shutil.copy(DATA / "nfkc.bin", other)
    with pytest.raises(InvalidArgument, match=r"out: holds .* another tokenizer: .*--rebuild"):
        make(corpus, out, other)
    with pytest.raises(InvalidArgument, match="of another shard_tokens"):
        make(corpus, out, shard_tokens=3000)
    make(corpus, out, other, rebuild=True)
    make(corpus, tmp_path / "new", other)
    assert files(out) == files(tmp_path / "new")
    (out / "meta.json").unlink()  # shards that nothing is known of
    with pytest.raises(InvalidArgument, match="holds shards of another"):
        make(corpus, out, other)
    (out / "meta.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileError, match=r"meta\.json: damaged"):
        make(corpus, out, other)


def test_tokens_beside_their_tokenizer_are_made_anew(corpus: Path, tmp_path: Path) -> None:
    """--rebuild takes away what was made, not what it is made of."""
    out = tmp_path / "out"
    out.mkdir()
    for suffix in (".model", ".bin"):
        shutil.copy(DATA / f"zh{suffix}", out / f"tokenizer{suffix}")
    make(corpus, out, out / "tokenizer.bin", shard_tokens=3000)
    make(corpus, out, out / "tokenizer.bin", rebuild=True)
    make(corpus, tmp_path / "new")
    assert files(out) == files(tmp_path / "new")


def test_what_is_missing_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"train\.jsonl\.gz: no such file"):
        make(tmp_path, tmp_path / "out")
    with pytest.raises(FileMissing, match=r"none\.model: no such file"):
        make(corpus, tmp_path / "out", tmp_path / "none.model")
    with pytest.raises(InvalidArgument, match="shard_tokens is 0"):
        make(corpus, tmp_path / "out", shard_tokens=0)
    with pytest.raises(FileMissing, match=r"meta\.json: not there"):
        TokenDataset(tmp_path)
    make(corpus, tmp_path / "out")
    with pytest.raises(InvalidArgument, match="split is 'test': expected one of"):
        TokenDataset(tmp_path / "out", "test")
    assert json.loads((tmp_path / "out" / "meta.json").read_text("utf-8"))["vocab_size"] == 640
