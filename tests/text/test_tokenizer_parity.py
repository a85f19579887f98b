"""A tokenizer.bin gives the ids that SentencePiece gives for the .model of the same vocabulary."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tinyzh.tokenizer import BinTokenizer, SentencePieceTokenizer

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
REAL_MODELS = ROOT.parent / "shared" / "models"


class Pair(NamedTuple):
    bin: BinTokenizer
    model: SentencePieceTokenizer
    reference: sentencepiece.SentencePieceProcessor


def load(stem: Path) -> Pair:
    model, binary = stem.with_suffix(".model"), stem.with_suffix(".bin")
    if not (model.exists() and binary.exists()):
        pytest.skip(f"{stem.name}.model and {stem.name}.bin are not in {stem.parent}")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    return Pair(BinTokenizer(binary), SentencePieceTokenizer(model), reference)


@pytest.fixture(scope="module")
def zh() -> Pair:
    """Identity normalisation, spaces kept."""
    return load(DATA / "zh")


@pytest.fixture(scope="module")
def nfkc() -> Pair:
    """SentencePiece's defaults: nmt_nfkc, spaces squeezed."""
    return load(DATA / "nfkc")


@pytest.fixture(scope="module")
def tok512() -> Pair:
    """A real English tokenizer: identity normalisation, spaces squeezed."""
    return load(REAL_MODELS / "tok512")


def ids(pair: Pair, text: str) -> list[int]:
    return pair.bin.encode(text, bos=False, dummy_prefix=True)


def squeezed(text: str) -> str:
    """The text as a .model with remove_extra_whitespaces sees it; a .bin is given it like this."""
    return " ".join(filter(None, text.replace("▁", " ").split(" ")))


def without_narrowing(pair: Pair, text: str) -> str:
    """The text less the wide punctuation that a .bin narrows and an identity .model does not."""
    known = {pair.reference.id_to_piece(i) for i in range(pair.reference.vocab_size())}
    return "".join(c for c in text if c in known or not ("！" <= c <= "｝" or c in "…\u3000"))


TEXTS = [
    "",
    " ",
    "   ",
    "从前",
    "从前，有一只小兔子，它住在森林里。",
    "“你好！”小兔子说：“我们一起玩吧？”",
    " 前面有空格  中间有两个 后面也有 ",
    "Once upon a time, there was a little girl named Lily.",
    "小明 said: hello 世界 world，好吗？",
    "笑脸😀和家人👨‍👩‍👧‍👦，旗子🇨🇳",
    "é, e\u0301, ñ, ﬁ, Ⅷ, ㎏, ①",
    "第一行\n第二行\r\n\t缩进\n\n",
    "\0一个\0空\x01字\x7f符\x85\u200b\ufeff",
    "▁从前▁▁有",
    "<s></s><unk><0x41>\n<s>\n",
    "龘龘龘𠀀𪚥",
    "\ufffd\uffff\U0010ffff",
    "aaaaaaaaaaaaaaaaaaaaaaaaa",
    "从从从从从从从从",
]
# Text made of what merges often, next to what the vocabularies lack.
FRAGMENTS = [*"从前有一个小的了是在，。“”！？ ▁\n\t龘😀éabethdon", "从前", "小兔子", "the ", " a"]
MIXED = st.lists(st.sampled_from(FRAGMENTS)).map("".join)
ANY = st.text(max_size=60) | MIXED


@pytest.mark.parametrize("text", TEXTS)
def test_known_texts(zh: Pair, text: str) -> None:
    text = without_narrowing(zh, text)
    assert ids(zh, text) == zh.reference.encode(text)


def test_the_stories_templates(zh: Pair) -> None:
    templates = sorted((ROOT / "python" / "tinyzh" / "train" / "templates").glob("*.txt"))
    assert templates
    for path in templates:
        text = without_narrowing(zh, path.read_text(encoding="utf-8"))
        assert ids(zh, text) == zh.reference.encode(text), path.name


@settings(deadline=None, max_examples=300)
@given(text=ANY)
def test_any_text(zh: Pair, text: str) -> None:
    text = without_narrowing(zh, text)
    assert ids(zh, text) == zh.reference.encode(text)


@settings(deadline=None)
@given(text=ANY)
def test_bos_eos_and_the_way_back(zh: Pair, text: str) -> None:
    text = without_narrowing(zh, text)
    encoded = zh.bin.encode(text, bos=True, eos=True, dummy_prefix=True)
    assert encoded == [1, *zh.reference.encode(text), 2]
    assert zh.bin.decode(encoded).lstrip(" ") == text.replace("▁", " ").lstrip(" ")


@pytest.mark.parametrize("text", TEXTS)
def test_known_texts_on_a_real_tokenizer(tok512: Pair, text: str) -> None:
    text = squeezed(without_narrowing(tok512, text))
    assert ids(tok512, text) == tok512.reference.encode(text)


@settings(deadline=None, max_examples=300)
@given(text=ANY)
def test_any_text_on_a_real_tokenizer(tok512: Pair, text: str) -> None:
    text = squeezed(without_narrowing(tok512, text))
    assert ids(tok512, text) == tok512.reference.encode(text)


@settings(deadline=None)
@given(text=ANY)
def test_the_model_reader_gives_sentencepieces_ids(zh: Pair, nfkc: Pair, text: str) -> None:
    for pair in (zh, nfkc):
        assert pair.model.encode(text, bos=False) == pair.reference.encode(text)


# ---- A .model that normalises, and the .bin that cannot say so ----

STORY = "从前，有一只小兔子！它说：“你好……”\u3000大家都笑了。他问：“真的吗？”"


@pytest.mark.parametrize("wide", ["，", "！", "？", "：", "…", "……", "\u3000", "ａ"])
def test_wide_punctuation_gives_the_same_ids(nfkc: Pair, wide: str) -> None:
    text = f"从前{wide}好"
    assert ids(nfkc, text) == nfkc.model.encode(text, bos=False)
    assert wide not in nfkc.bin.decode(ids(nfkc, text))


def test_a_story_in_wide_punctuation_gives_the_same_ids(nfkc: Pair) -> None:
    assert ids(nfkc, STORY) == nfkc.model.encode(STORY, bos=False)


def test_the_wide_tilde_stays(nfkc: Pair) -> None:
    assert ids(nfkc, "好～") == nfkc.model.encode("好～", bos=False)


def test_wide_punctuation_of_the_vocabulary_stays(zh: Pair) -> None:
    assert zh.bin.decode(ids(zh, "好，好！")) == "好，好！"


def test_what_has_no_narrow_form_in_the_vocabulary_stays(nfkc: Pair) -> None:
    """Here the two differ: the .model narrows first and then falls back to the byte of "("."""
    assert nfkc.reference.piece_to_id("(") == nfkc.reference.unk_id()
    assert nfkc.bin.decode(ids(nfkc, "（好）")) == "（好）"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tokenizers", DATA / "make_tokenizers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_rules_are_those_of_nmt_nfkc(nfkc: Pair, maker: ModuleType) -> None:
    """nfkc.model holds a part of the table of nmt_nfkc: on Chinese stories it does the same."""
    texts = maker.frequent(list(maker.lines()))
    whole = maker.train(texts, normalization_rule_name="nmt_nfkc")
    reference = sentencepiece.SentencePieceProcessor(model_proto=whole)
    for text in [*TEXTS[:10], STORY, *maker.lines()][:2000]:
        assert reference.normalize(text) == nfkc.reference.normalize(text)


def test_a_text_that_continues_gets_no_space_in_front(nfkc: Pair, zh: Pair) -> None:
    """Also where spaces are squeezed, and a line break with them."""
    assert nfkc.model.adds_dummy_prefix
    for pair in (nfkc, zh):
        for text in ("小兔子", "从前，有一只", "a", "123"):
            alone = pair.model.encode(text, bos=False)
            continued = pair.model.encode(text, bos=False, dummy_prefix=False)
            decoded = b"".join(pair.model.pieces[i] for i in continued)
            assert decoded.decode() == pair.reference.normalize(text).removeprefix("▁")
            assert (alone == continued) == (not pair.model.adds_dummy_prefix)
