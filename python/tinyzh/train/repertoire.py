"""The repertoire: plots that a small model is to know by heart, and the opening that leads to them.

A few million parameters do not follow who is who through any story, but they do through some two
hundred that they have heard often enough. Those are told again and again in a run of their own, and
the opening 从前 is theirs: other templates' stories mostly lose it. Asked for 从前, a model then
tells what it knows best.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Callable
from statistics import fmean

from .stories import Template, Text, Variable, builtin

__all__ = ["OPENING", "begun_otherwise", "is_easy", "repertoire", "without_opening"]

OPENING, OTHER = "从前", "很久以前"
_OPENING = re.compile("从前(?:，|(?=有))")  # without which a sentence is whole
OTHERWISE = 1 / 8  # of the stories that begin with the opening begin with the other one
ROLES = {"女孩", "男孩", "动物名", "动物", "大动物", "鸟", "虫", "家人"}
MOST_ROLES, MOST_QUOTATIONS, MOST_CHARACTERS = 2, 3, 300


@functools.cache
def repertoire() -> tuple[Template, ...]:
    """The built-in templates that begin with 从前 and are easy to keep apart.

    At most two characters of a story have a name or a kind that is drawn; on average it has at
    most three quotations and 300 letters.
    """
    return tuple(template for template in builtin()[0] if is_easy(template))


def is_easy(template: Template) -> bool:
    """Whether a template's stories begin with 从前 and few are in them, and say little."""
    first = template.paragraphs[0][0]
    roles = {
        part
        for paragraph in template.paragraphs
        for position in paragraph
        for line in position.lines
        for choice in line
        for text in choice
        for part in text
        if isinstance(part, Variable) and part.category in ROLES
    }
    return (
        not first.optional
        and all(_written(text).startswith(OPENING) for line in first.lines for text in line[0])
        and len(roles) <= MOST_ROLES
        and _mean(template, lambda text: _written(text).count("“")) <= MOST_QUOTATIONS
        and _mean(template, lambda text: len(_written(text))) <= MOST_CHARACTERS
    )


def begun_otherwise(story: str, rng: random.Random) -> str:
    """A story of the repertoire, which may begin with 很久以前 instead."""
    if story.startswith(OPENING) and rng.random() < OTHERWISE:
        return OTHER + story.removeprefix(OPENING)
    return story


def without_opening(story: str, rng: random.Random, keep: float) -> str:
    """Another story, which loses the 从前 that it begins with, but for a share of ``keep``.

    It is none the worse for that: 从前，有一只小猫 becomes 有一只小猫.
    """
    if keep < 1 and (opening := _OPENING.match(story)) and rng.random() >= keep:
        return story[opening.end() :]
    return story


def _written(text: Text) -> str:
    """A text with two characters for each variable."""
    return "".join(part if isinstance(part, str) else "〇〇" for part in text)


def _mean(template: Template, measure: Callable[[Text], int]) -> float:
    """The average of a measure over all stories of a template."""
    return sum(
        fmean(sum(fmean(map(measure, choice)) for choice in line) for line in position.lines)
        * (0.5 if position.optional else 1.0)
        for paragraph in template.paragraphs
        for position in paragraph
    )
