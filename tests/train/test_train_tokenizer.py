"""Training tokenizers: it never fails for the text's sake, and both files give the same ids."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
from tinyzh.errors import FileMissing, InvalidArgument
from tinyzh.tokenizer import BinTokenizer, SentencePieceTokenizer
from tinyzh.train.corpus import CorpusOptions, build_corpus, read_corpus
from tinyzh.train.tokenizer import TokenizerReport, train_tokenizer

pytest.importorskip("google.protobuf", reason="reads models; pip install 'tinyzh[train]'")

PLAIN = CorpusOptions(near_duplicates=0, processes=1, plot=False, min_chars=1, valid=0)


def corpus_of(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(texts), encoding="utf-8")
    build_corpus([folder / "a.json"], folder / "corpus", options=PLAIN, progress=False)
    return folder / "corpus"


def train(corpus: Path, out: Path, **options: int) -> TokenizerReport:
    return train_tokenizer(corpus, out, progress=False, **options)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    build_corpus([], folder, builtin=700, options=PLAIN, progress=False)
    return folder


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    report = train(corpus, folder, vocab_size=1200)
    assert report.vocab_size == 1200
    return folder


def test_both_files_give_the_same_ids(corpus: Path, trained: Path) -> None:
    model = SentencePieceTokenizer(trained / "tokenizer.model")
    binary = BinTokenizer(trained / "tokenizer.bin")
    assert model.vocab_size == binary.vocab_size == 1200
    extra = ["", " ", "  从前  有 一只 猫 ", "I have 12345 cats，😀龘", "\n从前\n\n", "a\tb"]
    for text in [*list(read_corpus(corpus))[:200], *extra]:
        ids = model.encode(text)
        assert binary.encode(text, narrow_punctuation=False) == ids, text
        assert model.decode(ids) == text
        assert binary.decode(ids) == text


def test_its_rules(trained: Path) -> None:
    tokenizer = SentencePieceTokenizer(trained / "tokenizer.model")
    pieces = tokenizer.pieces
    assert pieces[3:259] == [bytes([i]) for i in range(256)]
    assert not [p for p in pieces[259:] if b"\n" in p]
    assert tokenizer.adds_dummy_prefix
    assert sum(len(piece.decode()) > 1 for piece in pieces[259:]) > 150  # of several characters


def test_the_bin_is_in_llama2_c_s_dialect(trained: Path) -> None:
    data = (trained / "tokenizer.bin").read_bytes()
    (longest,) = struct.unpack_from("<I", data)
    pieces, at = [], 4
    while at < len(data):
        (length,) = struct.unpack_from("<i", data, at + 4)
        pieces.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    assert len(pieces) == 1200
    assert longest == max(map(len, pieces))
    assert pieces[:4] == [b"<unk>", b"\n<s>\n", b"\n</s>\n", b"<0x00>"]
    assert pieces[258] == b"<0xFF>"
    assert b" " in pieces
    assert not [piece for piece in pieces if "▁".encode() in piece]


def test_rare_characters_are_left_to_bytes(tmp_path: Path) -> None:
    rng = random.Random(1)
    common, rare = "从前有一只小猫，", "".join(map(chr, range(0x7E00, 0x7E00 + 2000)))
    texts = ["".join(rng.choices(common, k=60)) for _ in range(300)]
    texts += [rare[i : i + 10] for i in range(0, 2000, 10)]
    report = train(corpus_of(tmp_path / "c", texts), tmp_path / "t", vocab_size=400)
    assert report.vocab_size == 400
    assert report.distinct_characters == 2000 + len(set(common))
    assert report.kept_characters == 112  # 0.8 of the room
    assert len(report.byte_characters) == report.distinct_characters - 112
    assert not set(common) & {character for character, _ in report.byte_characters}
    assert report.character_coverage == pytest.approx(1 - 1896 / report.characters)
    assert "112 of 2,008 different characters are pieces" in str(report)
    assert "written as bytes: " in str(report)
    pieces = SentencePieceTokenizer(tmp_path / "t" / "tokenizer.model").pieces[259:]
    for character, _ in report.byte_characters:
        assert character.encode() not in pieces
    assert json.loads((tmp_path / "t" / "tokenizer.json").read_text("utf-8"))["asked"] == 400


def test_digits_stay_single(tmp_path: Path) -> None:
    train(corpus_of(tmp_path / "c", [f"有12只猫{'，' * i}" for i in range(9)]), tmp_path / "t")
    tokenizer = SentencePieceTokenizer(tmp_path / "t" / "tokenizer.model")
    assert {b"1", b"2", "只猫".encode()} <= set(tokenizer.pieces)
    assert b"12" not in tokenizer.pieces


def test_all_characters_are_pieces_where_there_is_room(corpus: Path, tmp_path: Path) -> None:
    report = train(corpus, tmp_path, vocab_size=4000)
    assert report.vocab_size == 4000
    assert report.kept_characters == report.distinct_characters > 1000
    assert report.character_coverage == 1
    assert report.byte_characters == []
    assert 1.2 < report.characters_per_token < 2


@pytest.mark.parametrize("texts", [["猫"], ["从前有一只猫", "从前有一只狗"], ["aaaa", " "]])
def test_tiny_texts_get_fewer_pieces(tmp_path: Path, texts: list[str]) -> None:
    report = train(corpus_of(tmp_path / "c", texts), tmp_path / "t")
    assert 260 <= report.vocab_size < 300
    assert "the text has not enough for 3,000 pieces" in str(report)
    model = SentencePieceTokenizer(tmp_path / "t" / "tokenizer.model")
    assert model.vocab_size == report.vocab_size
    assert model.decode(model.encode(texts[0])) == texts[0]


def test_a_long_story_counts_whole(tmp_path: Path) -> None:
    long = "猫" * 3999 + "狗"  # more bytes than SentencePiece takes by itself
    report = train(corpus_of(tmp_path / "c", [long]), tmp_path / "t")
    assert report.distinct_characters == 2
    pieces = SentencePieceTokenizer(tmp_path / "t" / "tokenizer.model").pieces
    assert {"猫".encode(), "狗".encode()} <= set(pieces)


def test_a_sample_depends_on_the_seed_alone(corpus: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        report = train(corpus, tmp_path / name, vocab_size=400, sample=50, seed=seed)
        assert report.stories == 50
    a, b, c = ((tmp_path / name / "tokenizer.bin").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_what_cannot_be_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="vocab_size is 259: expected 260 to 65536"):
        train(corpus, tmp_path, vocab_size=259)
    with pytest.raises(FileMissing, match="make the corpus"):
        train(tmp_path, tmp_path)
