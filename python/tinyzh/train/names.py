"""Other names for the children of a story, so that a few real stories say more.

"莉莉" is the heroine of every fourth translated story. Told once more with another name, a story
teaches that a name is whatever it was at the beginning, which is what a small model finds hardest.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from .stories import Slots

__all__ = ["exchange_names"]

CATEGORIES = ("女孩", "男孩")
OFTEN = 3  # times that a name which nobody introduces must occur, to be taken for one
_INTRODUCED = r"(?:叫做|叫作|名叫|叫|名字是)"


def exchange_names(story: str, slots: Slots, rng: random.Random) -> str:
    """The story with each girl's and boy's name exchanged for another of the same list.

    A name counts if somebody is *called* so, or if it occurs at least three times and is no
    everyday word (names that begin with 小 are: 小花, 小雨). Two names never become one.
    """
    new: dict[str, str] = {}
    for category in CATEGORIES:
        words = slots[category]
        for name in _found(story, words):
            free = [w for w in words if w not in story and w not in new.values()]
            if free:
                new[name] = rng.choice(free)
    if not new:
        return story
    pattern = "|".join(re.escape(name) for name in sorted(new, key=len, reverse=True))
    return re.sub(pattern, lambda match: new[match[0]], story)


def _found(story: str, names: Sequence[str]) -> list[str]:
    """The names that occur as names, longer ones first: 马克 is not in 马克斯."""
    found = []
    rest = story
    for name in sorted(names, key=len, reverse=True):
        introduced = re.search(_INTRODUCED + re.escape(name), rest)
        often = not name.startswith("小") and rest.count(name) >= OFTEN
        if introduced or often:
            found.append(name)
        rest = rest.replace(name, "·")
    return found
