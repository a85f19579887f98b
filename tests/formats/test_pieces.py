"""Tokenizers from one kind of file into another cut every text the same way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import REAL_MODELS, ROOT
from tinyzh import (
    BinTokenizer,
    InvalidArgument,
    MissingPackage,
    SentencePieceTokenizer,
    Special,
    Tokenizer,
    TokenizerError,
)
from tinyzh.formats.pieces import Pieces
from tinyzh.formats.tokenizer_json import JsonTokenizer

pytest.importorskip("google.protobuf", reason="writes SentencePiece's file")

DATA = ROOT / "tests" / "data"
STORY = ROOT / "python" / "tinyzh" / "data"
TEXTS = [
    "从前，有一只小兔子。它住在森林里！\n“你好！”它说：“我们去哪里？”",
    "Once upon a time, there were 123 rabbits.",
    "  two  spaces  ",
    "龘龘 is not in it, 🐰 neither.",
    "ＡＢＣ，全角 ！",
    "",
    " ",
]


def open_any(path: Path) -> Tokenizer:
    if path.suffix == ".model":
        return SentencePieceTokenizer(path)
    return JsonTokenizer(path) if path.suffix == ".json" else BinTokenizer(path)


def real(name: str) -> Path:
    path = REAL_MODELS / name
    if not path.exists():
        pytest.skip(f"{name} is not in {REAL_MODELS}")
    return path


@pytest.mark.parametrize("name", ["zh.model", "nfkc.model", "zh.bin", "story.model", "tok512.bin"])
def test_through_sentencepiece(name: str, tmp_path: Path) -> None:
    path = {
        "story.model": STORY / "story.tokenizer.model",
        "tok512.bin": REAL_MODELS / name,
    }.get(name, DATA / name)
    if not path.exists():
        real(path.name)
    original = open_any(path)
    again = Pieces.of(original).opened(tmp_path / "x.model")
    assert again.vocab_size == original.vocab_size
    for text in TEXTS:
        if isinstance(original, BinTokenizer):  # it narrows punctuation; the others do not
            expected = original.encode(text, narrow_punctuation=False)
        else:
            expected = original.encode(text)
        assert again.encode(text) == expected, text


@pytest.mark.parametrize("name", ["zh", "nfkc"])
def test_to_tokenizer_json(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    original = SentencePieceTokenizer(DATA / f"{name}.model")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(Pieces.of(original).json()), encoding="utf-8")
    fast = JsonTokenizer(path, Special())
    assert fast.vocab_size == original.vocab_size
    assert fast.adds_dummy_prefix == original.adds_dummy_prefix
    assert [k for _, k in fast.vocabulary.pieces()] == [k for _, k in original.vocabulary.pieces()]
    for text in TEXTS:
        assert fast.encode(text) == original.encode(text), text
        assert fast.encode(text, bos=False) == original.encode(text, bos=False)
        assert fast.decode(fast.encode(text)) == original.decode(original.encode(text))
        assert fast.encode(text, bos=False, dummy_prefix=False) == original.encode(
            text, bos=False, dummy_prefix=False
        )
    # And back: the order of its merges is what the scores were.
    again = Pieces.of(fast).opened(tmp_path / "again.model")
    for text in TEXTS:
        assert again.encode(text) == original.encode(text), text


def test_to_llama2c(tmp_path: Path) -> None:
    original = SentencePieceTokenizer(STORY / "story.tokenizer.model")
    data = Pieces.of(original).bin()
    assert data == (STORY / "story.tokenizer.bin").read_bytes()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=40))
def test_any_text(text: str) -> None:
    original = SentencePieceTokenizer(STORY / "story.tokenizer.model")
    global _again
    if _again is None:
        _again = Pieces.of(BinTokenizer(STORY / "story.tokenizer.bin")).opened(Path("x"))
    assert _again.encode(text) == original.encode(text)


_again: SentencePieceTokenizer | None = None


# ---- tokenizer.json of others ------------------------------------------------------------------


def by_bytes(tmp_path: Path) -> Path:
    """What GPT-2 and its like have: characters that stand for bytes."""
    tokenizers = pytest.importorskip("tokenizers", reason="trains a small one")
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    library.train_from_iterator(TEXTS, trainer)
    library.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_byte_level_pieces_are_bytes(tmp_path: Path) -> None:
    path = by_bytes(tmp_path)
    import tokenizers

    ours, theirs = JsonTokenizer(path, Special(bos=0)), tokenizers.Tokenizer.from_file(str(path))
    for text in TEXTS:
        ids = ours.encode(text, bos=False)
        assert ids == theirs.encode(text).ids
        assert b"".join(ours.pieces[i] for i in ids).decode() == text
        assert ours.decode(ids) == text
    assert ours.encode("从前") == ours.encode("从前", bos=False)  # it has no rule for a beginning
    assert ours.encode("") == [0]  # and yet something to begin with
    assert ours.vocabulary.pieces()[0] == (b"", "control")
    with pytest.raises(TokenizerError, match="cuts bytes as GPT-2 does"):
        Pieces.of(ours)


def test_other_kinds_are_named(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    path = tmp_path / "tokenizer.json"
    content: dict[str, Any] = Pieces.of(SentencePieceTokenizer(DATA / "zh.model")).json()
    content["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    content["added_tokens"] = []
    content["post_processor"] = None
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"of the type 'WordLevel'; BPE can be read"):
        JsonTokenizer(path)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"not a tokenizer\.json"):
        JsonTokenizer(path)


def test_arguments_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = JsonTokenizer(by_bytes(tmp_path))
    with pytest.raises(InvalidArgument, match="token is 300: expected an id from 0 to 299"):
        fast.decode([300])
    with pytest.raises(InvalidArgument, match="text is 7"):
        fast.encode(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="eos is True"):
        fast.encode("", eos=True)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingPackage, match=r"pip install 'tinyzh\[hub\]'"):
        JsonTokenizer(tmp_path / "tokenizer.json")


def test_pieces_that_only_a_bin_can_hold(tmp_path: Path) -> None:
    import checkpoints

    pieces = [*checkpoints.byte_pieces("ab"), (b"\xff\xfe", 0.0)]
    checkpoints.save(tmp_path / "t.bin", checkpoints.tokenizer_bin(pieces))
    with pytest.raises(TokenizerError, match=r"t\.bin: piece 261, b'\\xff\\xfe', is no text"):
        Pieces.of(BinTokenizer(tmp_path / "t.bin"))


def test_merges_come_by_their_scores_whatever_the_ids(tmp_path: Path) -> None:
    """Here "bc" is merged first, though its id is larger."""
    pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    texts = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "ab", "bc", "abc"]
    scores = [0.0, 0.0, 0.0, -9.0, -10.0, -11.0, -12.0, -3.0, -1.0, -5.0]
    types = [2, 3, 3, 1, 1, 1, 1, 1, 1, 1]
    pieces = Pieces(texts, scores, types, dummy_prefix=False)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(pieces.json()), encoding="utf-8")
    expected = pieces.opened(tmp_path / "x.model").encode("abcabb")
    assert expected == [1, 9, 7, 5]
    fast = JsonTokenizer(path, Special())
    assert fast.encode("abcabb") == expected
    assert not fast.adds_dummy_prefix
    assert Pieces.of(fast).opened(tmp_path / "y.model").encode("abcabb") == expected
    bin_path = tmp_path / "tokenizer.bin"
    bin_path.write_bytes(pieces.bin())
    assert BinTokenizer(bin_path).encode("abcabb", dummy_prefix=False) == expected
