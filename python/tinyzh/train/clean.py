"""Cleaning a story's text: Unicode, line ends, spaces, punctuation."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["chinese_share", "clean", "comparison_key", "full_width"]

HANZI = "一-鿿㐀-䶿"  # CJK unified ideographs and extension A
WIDE = "，。！？：；（）“”‘’、…—《》·"

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n]+")  # every kind of space but the line break
_EMPTY_LINES = re.compile("\n{3,}")
_UNUSUAL = re.compile(rf"[^\n -~{HANZI}{WIDE}]")
_NOT_TEXT = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, format, surrogate, private, unassigned
_NO_LETTERS = re.compile(r"[\W_]+")


def clean(text: str, *, widen: bool = False) -> str:
    """One story as it goes into the corpus.

    The text becomes NFC; control and invisible characters go; every line end becomes one line
    break, every run of spaces one space; lines lose their spaces at both ends, and of several
    empty lines one stays. With ``widen``, punctuation is treated as :func:`full_width` does.
    """
    text = unicodedata.normalize("NFC", _LINE_ENDS.sub("\n", text))
    for char in set(_UNUSUAL.findall(text)):
        if unicodedata.category(char) in _NOT_TEXT and not char.isspace():
            text = text.replace(char, "")
    lines = (line.strip() for line in _SPACES.sub(" ", text).split("\n"))
    text = _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n")
    return full_width(text) if widen else text


_MARKS = str.maketrans(",.!?:;()", "，。！？：；（）")
_CHINESE = f"{HANZI}{WIDE}"
_ELLIPSIS = re.compile(rf"(?<=[{_CHINESE}])(?:\.{{3,}}|。{{3,}})|\.{{3,}}(?=[{_CHINESE}])")
_DASH = re.compile(rf"(?<=[{_CHINESE}])--+|--+(?=[{_CHINESE}])")
_BESIDE = re.compile(rf"(?<=[{_CHINESE}])[,.!?:;()]+|[,!?:;(](?=[{_CHINESE}])")
_QUOTED = re.compile(r'"([^"\n]*)"')
_GAP = re.compile(rf"(?<=[{_CHINESE}]) +(?=[{_CHINESE}])")


def full_width(text: str) -> str:
    """Half-width punctuation beside Chinese becomes full-width: ``你好,小猫!`` → ``你好，小猫！``.

    Also straight quotes in pairs, ``...`` and ``--``; and a space between two Chinese characters
    goes. What stands between Latin letters or digits (``3.5``, ``a, b``) is left alone.
    """
    text = _GAP.sub("", text)
    text = _ELLIPSIS.sub("……", text)
    text = _DASH.sub("——", text)
    text = _widen_marks(text)
    if '"' in text and re.search(f"[{HANZI}]", text):
        text = _widen_marks(_QUOTED.sub(r"“\1”", text))  # again: 你好", has a comma beside a quote
    return _GAP.sub("", text)


def _widen_marks(text: str) -> str:
    return _BESIDE.sub(lambda match: match[0].translate(_MARKS), text)


def chinese_share(text: str) -> float:
    """The share of hanzi and Chinese punctuation among the characters that are not spaces."""
    seen = [c for c in text if not c.isspace()]
    return sum(c in WIDE or "㐀" <= c <= "鿿" for c in seen) / max(1, len(seen))


def comparison_key(text: str) -> str:
    """What two copies of one story have in common: its letters and digits, in NFKC, lower case."""
    letters = _NO_LETTERS.sub("", text)
    if not unicodedata.is_normalized("NFKC", letters):
        letters = _NO_LETTERS.sub("", unicodedata.normalize("NFKC", letters))
    return letters.lower()
