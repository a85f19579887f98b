"""Other names for the heroes of a story, so that a few real stories say more.

"莉莉" is the heroine of every fourth translated story. Told once more with another name, a story
teaches that a name is whatever it was at the beginning, which is what a small model finds hardest.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

from .stories import Slots

__all__ = ["ANIMALS", "BOYS", "GIRLS", "exchange_names", "names_in"]

GIRLS, BOYS, ANIMALS = "女孩", "男孩", "动物名"
OFTEN = 3  # times that a name which nobody introduces must occur, to be taken for one
_INTRODUCED = r"(?:叫做|叫作|名叫|叫|名字是)"
_LATIN = re.compile(r"(?<![A-Za-z])[A-Z][a-z]+(?![A-Za-z])")
_PRONOUNS = {"她": GIRLS, "他": BOYS, "它": ANIMALS}


def exchange_names(story: str, slots: Slots, rng: random.Random) -> str:
    """The story with each name of a child or an animal exchanged for another of the same list.

    A name counts if somebody is *called* so. A child's counts too if it occurs at least three
    times and is no everyday word, as those that begin with 小 are: 小花, 小雨. A name that the
    translation left in Latin letters becomes that of a girl, a boy or an animal, whichever
    pronoun the story has most of. Two names never become one.
    """
    found = [(name, category) for category in (GIRLS, BOYS, ANIMALS)
             for name in names_in(story, slots.get(category, ()), category)]  # fmt: skip
    found += [(name, _category(story)) for name in _latin(story)]
    new: dict[str, str] = {}
    for name, category in found:
        taken = {*new.values(), *new}
        free = [w for w in slots.get(category, ()) if w not in story and w not in taken]
        if name not in new and free:
            new[name] = rng.choice(free)
    if not new:
        return story
    pattern = "|".join(map(_whole, sorted(new, key=len, reverse=True)))
    return re.sub(pattern, lambda match: new[match[0].strip()], story)


def names_in(story: str, names: Sequence[str], category: str) -> list[str]:
    """The names that occur as names, longer ones first: 马克 is not in 马克斯."""
    found = []
    rest = story
    for name in sorted(names, key=len, reverse=True):
        if name not in rest:
            continue
        introduced = re.search(_INTRODUCED + re.escape(name), rest)
        often = category != ANIMALS and not name.startswith("小") and rest.count(name) >= OFTEN
        if introduced or often:
            found.append(name)
        rest = rest.replace(name, "·")
    return found


def _latin(story: str) -> list[str]:
    """The names in Latin letters, by their first occurrence."""
    return [
        name
        for name, count in Counter(_LATIN.findall(story)).items()
        if count >= OFTEN or re.search(f"{_INTRODUCED} ?{name}", story)
    ]


def _category(story: str) -> str:
    """What the hero most likely is."""
    return _PRONOUNS[max(_PRONOUNS, key=story.count)]


def _whole(name: str) -> str:
    """A pattern for a name; Latin letters are a whole word, with the spaces around it."""
    return f" ?(?<![A-Za-z]){name}(?![A-Za-z]) ?" if name.isascii() else re.escape(name)
