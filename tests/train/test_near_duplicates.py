"""Near duplicates: changed copies are found, other stories are not."""

from __future__ import annotations

import random

import pytest
from tinyzh.train.clean import comparison_key
from tinyzh.train.duplicates import near_duplicates
from tinyzh.train.stories import FOLDER, stories

pytest.importorskip("rensa", reason="finds near duplicates; pip install 'tinyzh[train]'")

KEYS = [comparison_key(text) for text in stories(FOLDER, 300, seed=1)]  # of different templates


def changed(key: str, characters: int, seed: int) -> str:
    rng = random.Random(seed)
    text = list(key)
    for place in rng.sample(range(len(text)), characters):
        text[place] = "某"
    return "".join(text)


def test_changed_copies_are_found_and_the_first_one_stays() -> None:
    copies = [changed(key, 2, seed) for seed, key in enumerate(KEYS[:50])]
    assert near_duplicates(KEYS + copies, 0.7) == list(range(300, 350))
    assert near_duplicates(copies + KEYS, 0.7) == list(range(50, 100))


def test_other_stories_stay() -> None:
    assert near_duplicates(KEYS, 0.7) == []
    rewritten = [changed(key, len(key) // 4, seed) for seed, key in enumerate(KEYS[:50])]
    assert near_duplicates(KEYS + rewritten, 0.7) == []


def test_the_similarity_decides() -> None:
    first, other = KEYS[0], KEYS[1] * 2

    def sharing(part: float) -> str:
        """The beginning of the first story, and something else: a similarity of p / (2 - p)."""
        cut = round(part * len(first))
        return first[:cut] + other[: len(first) - cut]

    assert near_duplicates([first, sharing(0.88)], 0.7) == [1]  # 0.77
    assert near_duplicates([first, sharing(0.77)], 0.7) == []  # 0.61
    assert near_duplicates([first, sharing(0.77)], 0.5) == [1]


def test_of_many_copies_one_stays() -> None:
    copies = [changed(KEYS[0], 1, seed) for seed in range(40)]
    assert near_duplicates([KEYS[1], *copies, KEYS[2]], 0.7) == list(range(2, 41))


def test_short_texts() -> None:
    assert near_duplicates(["猫", "狗", "猫"], 0.7) == [2]
    assert near_duplicates([], 0.7) == []
