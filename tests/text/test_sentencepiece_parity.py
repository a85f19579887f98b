"""The core reads a SentencePiece .model as the sentencepiece package does: the ids, the pieces."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import model_proto as proto
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tinyzh import _core
from tinyzh.errors import TokenizerError
from tinyzh.tokenizer import SentencePieceTokenizer

ROOT = Path(__file__).resolve().parents[2]
REAL_MODELS = ROOT.parent / "shared" / "models"

# What the trained models learn from, and what the texts are made of.
CORPUS = [
    "从前，有一只小兔子，它住在森林里。",
    "小兔子说：“你好！我们一起玩吧，好吗？”",
    "森林里有很多小动物，小兔子和小猫是好朋友。",
    "有一天，小猫在家里看书，小兔子来了。",
    "Once upon a time, there was a little rabbit who lived in the forest.",
    "The rabbit said hello to the cat, and they played all day.",
    "Tom has 3 apples, 12 pears and 2024 plums. <b>So many!</b>",
]
TEXTS = [
    "",
    " ",
    "   ",
    "\t",
    "\n",
    "\n\n \t\r\n",
    "▁",
    "▁▁ ▁",
    "从前",
    *CORPUS,
    " 前面有空格  中间有两个 后面也有 ",
    "\u3000全角空格\u3000\u3000在中间\u3000",
    "ＡＢＣ，１２３！ﾊﾝｶｸ （括号）……～",
    "半角 half-width ﾀﾞ ｶﾞ 全角 ｆｕｌｌ",
    "笑脸😀和家人👨‍👩‍👧‍👦，旗子🇨🇳，❤️",
    "é, e\u0301, ñ, ﬁ, Ⅷ, ㎏, ①, ｶﾞ, ﷺ, ẛ̣, Å, Ǆ, ß, İ, Σς",
    "第一行\n第二行\r\n\t缩进\n\n",
    "\0一个\0空\x01字\x7f符\x85\u200b\u200e\ufeff\u00ad",
    "no\u00a0break\u2003em\u2009thin\u202fnarrow\u205f\u1680\u2028\u2029",
    "▁从前▁▁有▁",
    " ▁ 从前 ▁",
    "<s></s><unk><0x41>\n<s>\n<0xE4><pad>",
    "龘龘龘𠀀𪚥",
    "\ufffd\uffff\U0010ffff\ue000",
    "a" * 300,
    "ab" * 200,
    "从" * 100,
    "小兔子" * 60,
    " " * 100 + "好" + " " * 100,
    "<b>粗</b><b></b><<b>>",
    "<b><b<b>x</b></b",
    "12345678901234567890 ３４",
]
BROKEN = [  # not UTF-8
    b"\xff",
    b"\x80\xbf",
    b"\xe4\xbb",
    b"\xe4\xbb\x8e\xe4\xbb a \xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc0\x80\xf0\x82\x82\xac",
    b"\xef\xbc\xef\xbc\x8c ",
]
FRAGMENTS = [
    *"从前有一小兔子森林里，。“”！？Ａ３ ▁\n\t\0龘😀éßİ\u0301\u3000\u200babethr12<>",
    *("  ", "<b>", "</b>", "the ", " a", "小兔子", "abab", "aba", "<0x41>", "<unk>"),
]
ANY = st.text(max_size=40) | st.lists(st.sampled_from(FRAGMENTS)).map("".join)
ANY_BYTES = st.binary(max_size=20) | st.lists(
    st.sampled_from([f.encode() for f in FRAGMENTS]) | st.binary(max_size=3)
).map(b"".join)


def train(vocab_size: int = 420, model_type: str = "bpe", **options: object) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 3),
        model_writer=model,
        model_type=model_type,
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=0.98,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def some_unused(model: bytes) -> bytes:
    """Every third merged piece out of use: merges go through it, and what is left is taken apart.

    Not a single character: releases of the library do not agree on what becomes of it.
    """

    def change(token: int, piece: bytes) -> bytes:
        fields = dict(proto.decode(piece))
        text = fields[proto.TEXT]
        assert isinstance(text, bytes)
        if (
            fields.get(proto.TYPE, proto.NORMAL) != proto.NORMAL
            or token % 3
            or len(text.decode()) == 1
        ):
            return piece
        return proto.with_fields(piece, TYPE=proto.UNUSED)

    return proto.with_pieces(model, change)


def late_symbols(model: bytes) -> bytes:
    """Every fifth ordinary piece a symbol: others hold it, and would merge over its ends."""

    def change(token: int, piece: bytes) -> bytes:
        ordinary = dict(proto.decode(piece)).get(proto.TYPE, proto.NORMAL) == proto.NORMAL
        return (
            proto.with_fields(piece, TYPE=proto.USER_DEFINED)
            if ordinary and not token % 5
            else piece
        )

    return proto.with_pieces(model, change)


def same_scores(model: bytes) -> bytes:
    """All ties: the leftmost pair is merged first."""
    return proto.with_pieces(model, lambda _, piece: proto.with_fields(piece, SCORE=-1.0))


def crossing_symbols() -> bytes:
    """Symbols that begin like one another."""
    names = ["a", "ab", "abab", "里", "小兔", "小兔子和", "x y", "\u3000", "<b>", "🇨", "\n"]
    return train(420, user_defined_symbols=names, normalization_rule_name="nmt_nfkc")


SETTINGS: dict[str, Callable[[], bytes]] = {
    "nmt_nfkc": lambda: train(normalization_rule_name="nmt_nfkc"),
    "nfkc": lambda: train(normalization_rule_name="nfkc"),
    "identity": lambda: train(normalization_rule_name="identity"),
    "nmt_nfkc_cf": lambda: train(normalization_rule_name="nmt_nfkc_cf"),
    "nfkc_cf_bytes": lambda: train(normalization_rule_name="nfkc_cf", byte_fallback=True),
    "bytes": lambda: train(byte_fallback=True),
    "no_dummy": lambda: train(add_dummy_prefix=False),
    "no_dummy_bytes": lambda: train(add_dummy_prefix=False, byte_fallback=True),
    "spaces_kept": lambda: train(remove_extra_whitespaces=False),
    "identity_kept_bytes": lambda: train(
        normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True
    ),
    "symbols": lambda: train(user_defined_symbols=["<b>", "</b>", "12", "小兔子"]),
    "crossing_symbols": crossing_symbols,
    "late_symbols": lambda: late_symbols(train()),
    "split_digits": lambda: train(split_digits=True, byte_fallback=True),
    "suffix": lambda: train(treat_whitespace_as_suffix=True),
    "suffix_kept": lambda: train(
        treat_whitespace_as_suffix=True, remove_extra_whitespaces=False, byte_fallback=True
    ),
    "over_words": lambda: train(split_by_whitespace=False, split_by_unicode_script=False),
    "other_ids": lambda: train(
        pad_id=0, unk_id=5, bos_id=-1, eos_id=2, unk_surface="[?]", control_symbols=["<c>"]
    ),
    "unused": lambda: some_unused(train(byte_fallback=True)),
    "unused_symbols": lambda: some_unused(crossing_symbols()),
    "ties": lambda: same_scores(train(normalization_rule_name="identity")),
    "not_escaped": lambda: proto.with_part(train(), proto.NORMALIZER, ESCAPE=0),
    "not_escaped_suffix": lambda: proto.with_part(
        train(treat_whitespace_as_suffix=True, remove_extra_whitespaces=False),
        proto.NORMALIZER,
        ESCAPE=0,
    ),
}
FILES = {
    path.name: path
    for folder in (ROOT / "tests" / "data", ROOT / "python" / "tinyzh" / "data", REAL_MODELS)
    for path in sorted(folder.glob("*.model"))
}
MODELS = [*FILES, *SETTINGS]


@cache
def model_bytes(name: str) -> bytes:
    return FILES[name].read_bytes() if name in FILES else SETTINGS[name]()


class Both:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ours = _core.SentencePieceModel(data, "test.model")
        self.theirs = sentencepiece.SentencePieceProcessor(model_proto=data)

    def check(self, text: str | bytes) -> None:
        assert self.ours.encode(text, None) == self.theirs.encode(text), repr(text)


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest) -> Both:
    return Both(model_bytes(request.param))


def test_there_are_models_of_all_kinds() -> None:
    assert {"zh.model", "nfkc.model", "story.tokenizer.model"} <= FILES.keys()


def test_real_models() -> None:
    """Those of others are compared too, where they are there."""
    if not REAL_MODELS.exists():
        pytest.skip(f"{REAL_MODELS} is not there")
    assert "tok512.model" in FILES


def test_known_texts(both: Both) -> None:
    for text in TEXTS:
        both.check(text)


def test_broken_texts(both: Both) -> None:
    for text in BROKEN:
        both.check(text)


def test_the_stories_templates(both: Both) -> None:
    path = ROOT / "python" / "tinyzh" / "train" / "templates" / "01_friends.txt"
    text = path.read_text(encoding="utf-8")
    both.check(text)
    for line in text.splitlines():
        both.check(line)


@settings(deadline=None, max_examples=40)
@given(text=ANY)
def test_any_text(both: Both, text: str) -> None:
    both.check(text)


@settings(deadline=None, max_examples=25)
@given(text=ANY_BYTES)
def test_any_bytes(both: Both, text: bytes) -> None:
    both.check(text)


def test_every_character_that_has_a_rule(both: Both) -> None:
    """The basic plane and what is normalised beyond it, each character behind a letter."""
    beyond = [*range(0x1D400, 0x1D800), *range(0x1F100, 0x1F300), *range(0x2F800, 0x2FA20)]
    codes = [*range(0xD800), *range(0xE000, 0x10000), *beyond]
    for first in range(0, len(codes), 512):
        both.check("".join("a" + chr(c) for c in codes[first : first + 512]))


def test_the_vocabulary(both: Both, tmp_path: Path) -> None:
    path = tmp_path / "test.model"
    path.write_bytes(both.data)
    expected = SentencePieceTokenizer(path)
    assert both.ours.vocabulary.pieces() == expected.vocabulary.pieces()
    assert len(both.ours) == expected.vocab_size


@pytest.mark.parametrize("dummy", [False, True])
def test_the_dummy_prefix_can_be_chosen(both: Both, dummy: bool) -> None:
    """As if the file said so."""
    said = Both(proto.with_part(both.data, proto.NORMALIZER, DUMMY_PREFIX=int(dummy)))
    assert said.ours.adds_dummy_prefix == (said.theirs.normalize("x")[0] in "▁ ")
    for text in TEXTS:
        expected = said.theirs.encode(text)
        assert said.ours.encode(text, None) == expected
        assert both.ours.encode(text, dummy) == expected


@pytest.mark.parametrize("model_type", ["unigram", "char", "word"])
def test_other_algorithms_are_refused_by_name(model_type: str) -> None:
    data = train(200, model_type)
    with pytest.raises(TokenizerError, match=rf"story\.model is .*{model_type}.*--model_type=bpe"):
        _core.SentencePieceModel(data, "story.model")


def test_a_control_piece_is_never_matched() -> None:
    """Not even one of a single character, which older releases of the library stumble over."""
    data = proto.with_pieces(
        train(control_symbols=["<c>"], byte_fallback=True),
        lambda token, piece: proto.with_fields(piece, TEXT="龘".encode()) if token == 3 else piece,
    )
    both = Both(data)
    assert both.ours.vocabulary.pieces()[3] == (b"", "control")
    assert both.ours.encode("龘", False) == [
        both.theirs.piece_to_id(f"<0x{b:02X}>") for b in "龘".encode()
    ]


@pytest.mark.parametrize("text", ["a", "ab", " ", "小兔子", "龘", "\u3000x", "\uff21"])
def test_a_long_text_takes_no_longer_for_each_character(text: str) -> None:
    both = Both(model_bytes("crossing_symbols"))
    long = text * (200_000 // len(text))
    both.ours.encode(long[:1000], None)
    started = time.perf_counter()
    ids = both.ours.encode(long, None)
    assert time.perf_counter() - started < 5  # about 0.1 s; where it grows with the square, minutes
    assert ids == both.theirs.encode(long)
