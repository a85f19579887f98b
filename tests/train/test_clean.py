"""Cleaning: what one story looks like before and after."""

from __future__ import annotations

import pytest
from tinyzh.train.clean import chinese_share, clean, comparison_key, full_width


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("e\u0301", "é"),  # NFC
        ("从前\r\n有一天\r后来\u2028再\x85见", "从前\n有一天\n后来\n再\n见"),
        ("  　从前\t有\u00a0 一天　 \n\n \n\n 后来 ", "从前 有 一天\n\n后来"),
        ("\n\n从前\r\n\r\n有一天\n后来\n\n", "从前\n\n有一天\n后来"),
        ("\ufeff从\u200b前\x00\x07有\x7f一\u00ad天\ue000", "从前有一天"),
        ("从前，“好”！…—3.5 a", "从前，“好”！…—3.5 a"),  # nothing to clean
        ("\ud800从前", "从前"),  # a lone surrogate has no UTF-8
        ("\u200b \n", ""),
        ("小猫🐱", "小猫🐱"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "widened"),
    [
        ("你好,小猫!", "你好，小猫！"),
        ("真的?是的。他说:走;停.", "真的？是的。他说：走；停。"),
        ('他说:"你好!"然后走了', "他说：“你好！”然后走了"),
        ('"你好",他说。', "“你好”，他说。"),
        ("他想...后来--走了", "他想……后来——走了"),
        ("小猫(白色的)来了", "小猫（白色的）来了"),
        ("从前 有一 只猫, 它", "从前有一只猫，它"),
        ("3.5 a, b! (c) it's 12:30", "3.5 a, b! (c) it's 12:30"),  # not Chinese
        ("第3.5页,好", "第3.5页，好"),
        ('5" 的尺', '5" 的尺'),  # a quote alone
    ],
)
def test_full_width(text: str, widened: str) -> None:
    assert full_width(text) == widened
    assert full_width(widened) == widened
    assert clean(text, widen=True) == widened


def test_copies_have_one_key() -> None:
    key = comparison_key("从前，有一只小猫。")
    assert key == "从前有一只小猫"
    assert comparison_key("从前, 有一只\n小猫") == key
    assert comparison_key("ＡＢＣ①_！") == comparison_key("abc1") == "abc1"
    assert comparison_key("，。！") == ""


def test_chinese_share() -> None:
    assert chinese_share("从前，有 ab") == pytest.approx(4 / 6)
    assert chinese_share("") == 0
