"""Draws children's stories from templates.

A folder of stories holds ``slots.txt`` (word lists, ``category: word word …``) and templates
in ``*.txt``; ``templates/SPEC.md`` explains their language.
One template tells very many different stories, and one seed always the same ones.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "templates"
"""The stories that belong to the project."""

Slots = Mapping[str, Sequence[str]]
"""The words of each category."""


@dataclass(frozen=True)
class Variable:
    """``<女孩1>``: a word of a category, the same word each time it is used in one story."""

    category: str
    number: int


Text = tuple[str | Variable, ...]
"""Plain text and variables, one after another."""

Line = tuple[tuple[Text, ...], ...]
"""A sequence of choices; each choice is a tuple of alternatives, often of only one."""


@dataclass(frozen=True)
class Position:
    """One step of a story: one of ``lines`` is told, or perhaps none if it is optional."""

    lines: tuple[Line, ...]
    optional: bool = False


@dataclass(frozen=True)
class Template:
    """A story with choices; ``literals`` is all its fixed text, joined by spaces."""

    title: str
    place: str
    paragraphs: tuple[tuple[Position, ...], ...]
    literals: str


_VARIABLE = re.compile(r"<([^<>{}|\s0-9]+)([0-9]+)>")


def load_slots(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read the word lists; ValueError names the file and line of what is wrong."""
    slots: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        category, colon, rest = line.partition(":")
        category, words = category.strip(), tuple(rest.split())
        if not colon or not category or not words:
            raise ValueError(f"{path}:{number}: expected 'category: word word …', found {line!r}")
        if category in slots:
            raise ValueError(f"{path}:{number}: the category {category} is listed twice")
        if len(set(words)) != len(words):
            raise ValueError(f"{path}:{number}: the category {category} repeats a word")
        slots[category] = words
    return slots


def load_templates(folder: str | Path) -> list[Template]:
    """Read all templates of a folder, checked against its ``slots.txt``."""
    slots = load_slots(Path(folder) / "slots.txt")
    templates: list[Template] = []
    for path in sorted(Path(folder).glob("*.txt")):
        if path.name != "slots.txt":
            templates += parse_templates(path.read_text(encoding="utf-8"), str(path), slots)
    if not templates:
        raise ValueError(f"{folder}: no templates, in no *.txt beside slots.txt")
    return templates


def parse_templates(text: str, name: str, slots: Slots) -> list[Template]:
    """Parse the text of one template file; ``name`` stands for the file in messages."""
    blocks: list[tuple[str, str, list[tuple[str, str]]]] = []  # title, place, (place, line)…
    for number, raw in enumerate(text.splitlines(), 1):
        place, line = f"{name}:{number}", raw.strip()
        if line.startswith("## "):
            blocks.append((line[3:].strip(), place, []))
        elif line.startswith("#"):
            raise ValueError(f"{place}: a title is '## ' and a name, found {line!r}")
        elif blocks:
            blocks[-1][2].append((place, line))
        elif line:
            raise ValueError(f"{place}: text before the first '## ' title")
    return [_parse_template(title, place, lines, slots) for title, place, lines in blocks]


def _parse_template(
    title: str, place: str, lines: Sequence[tuple[str, str]], slots: Slots
) -> Template:
    paragraphs: list[list[Position]] = [[]]
    variables: set[Variable] = set()
    literals: list[str] = []
    open_group = False  # does a further "+ " line join the position before it?
    for where, line in lines:
        if not line:
            paragraphs.append([])
            open_group = False
            continue
        mark, body = (line[0], line[2:]) if line.startswith(("? ", "+ ")) else ("", line)
        parsed = _parse_line(body, where)
        for text in (text for choice in parsed for text in choice):
            for part in text:
                if isinstance(part, str):
                    literals.append(part)
                elif part.category in slots:
                    variables.add(part)
                else:
                    raise ValueError(f"{where}: unknown category <{part.category}{part.number}>")
        if mark == "+" and open_group:
            last = paragraphs[-1].pop()
            paragraphs[-1].append(Position((*last.lines, parsed)))
        else:
            paragraphs[-1].append(Position((parsed,), optional=mark == "?"))
        open_group = mark == "+"
    for category in {variable.category for variable in variables}:
        wanted = sum(variable.category == category for variable in variables)
        if wanted > len(slots[category]):
            raise ValueError(
                f"{place}: {wanted} different words of {category}, which has {len(slots[category])}"
            )
    told = tuple(tuple(paragraph) for paragraph in paragraphs if paragraph)
    if not told:
        raise ValueError(f"{place}: the template {title!r} is empty")
    return Template(title, place, told, " ".join(literals))


def _parse_line(line: str, where: str) -> Line:
    choices: list[tuple[Text, ...]] = []
    rest = line
    while rest:
        before, brace, rest = rest.partition("{")
        if "}" in before or "|" in before:
            raise ValueError(f"{where}: '}}' or '|' outside of {{…}}: {before!r}")
        if before:
            choices.append((_parse_text(before, where),))
        if brace:
            inside, brace, rest = rest.partition("}")
            if not brace or "{" in inside:
                problem = "nested {…}" if "{" in inside else "'{' without '}'"
                raise ValueError(f"{where}: {problem}: {inside!r}")
            choices.append(tuple(_parse_text(part, where) for part in inside.split("|")))
    return tuple(choices)


def _parse_text(text: str, where: str) -> Text:
    parts: list[str | Variable] = []
    end = 0
    for match in _VARIABLE.finditer(text):
        parts += [text[end : match.start()], Variable(match[1], int(match[2]))]
        end = match.end()
    parts.append(text[end:])
    for part in parts:
        if isinstance(part, str) and ("<" in part or ">" in part):
            raise ValueError(f"{where}: not a variable like <女孩1>: {part!r}")
    return tuple(part for part in parts if part)


def kind(word: str, category: str) -> str:
    """What two words for the same sort of animal have in common: 小鸭子 and 鸭妈妈 are 鸭."""
    if category not in {"动物", "大动物"}:
        return word
    bare = word[1:] if word[0] in "小大" else word
    return bare.removesuffix("子") or word


def draw(template: Template, slots: Slots, rng: random.Random) -> str:
    """Draw one story: its paragraphs, with an empty line between them.

    Different variables get different words, and a word that the template itself writes out
    is not drawn either, so that two actors are never taken for one: neither 小兔子 where the
    text has a 兔妈妈, nor 小熊 beside 大熊.
    """
    words: dict[Variable, str] = {}

    def taken(word: str, category: str) -> bool:
        name = kind(word, category)
        return name in template.literals or any(
            name == kind(other, variable.category) for variable, other in words.items()
        )

    def word(variable: Variable) -> str:
        if variable not in words:
            of = variable.category
            fresh = [w for w in slots[of] if w not in words.values()]
            best = [w for w in fresh if not taken(w, of)]
            words[variable] = rng.choice(best or fresh or slots[of])
        return words[variable]

    paragraphs: list[str] = []
    for paragraph in template.paragraphs:
        told: list[str] = []
        for position in paragraph:
            if position.optional and rng.random() < 0.5:
                continue
            for choice in rng.choice(position.lines):
                text = rng.choice(choice)
                told += [part if isinstance(part, str) else word(part) for part in text]
        if told:
            paragraphs.append("".join(told))
    return "\n\n".join(paragraphs)


def tell_round(
    templates: Sequence[Template], slots: Slots, seed: int, number: int
) -> list[tuple[str, str]]:
    """Draw one story of every template, in a shuffled order: (title, story).

    A round depends on nothing but its arguments, so rounds can be told by many processes.
    """
    rng = random.Random(f"{seed}/{number}")
    order = rng.sample(templates, len(templates))
    return [(template.title, draw(template, slots, rng)) for template in order]


@functools.cache
def builtin() -> tuple[list[Template], Slots]:
    """The project's own templates and their word lists."""
    return load_templates(FOLDER), load_slots(FOLDER / "slots.txt")


def stories(folder: str | Path, count: int, seed: int) -> Iterator[str]:
    """Draw ``count`` stories, every template equally often."""
    templates = load_templates(folder)
    slots = load_slots(Path(folder) / "slots.txt")
    rounds = (tell_round(templates, slots, seed, number) for number in itertools.count())
    for _, story in itertools.islice(itertools.chain.from_iterable(rounds), count):
        yield story
