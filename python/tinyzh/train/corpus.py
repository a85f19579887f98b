"""From texts and templates to a corpus: cleaned, without duplicates, split for validation.

A corpus is a folder of ``train.jsonl.gz`` and ``valid.jsonl.gz`` (one ``{"text": …}`` a line),
``report.json`` and ``lengths.png``. What goes where depends on the stories themselves and the
seed, never on their order, so that a longer corpus keeps its validation stories. (All but the one
of a corpus so small that its share is less than a story: that one may be trained on later.)
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import os
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..atomic import replacing
from ..errors import FileError, FileMissing, InvalidArgument
from . import stories
from .clean import chinese_share, clean, comparison_key, full_width
from .duplicates import near_duplicates
from .extra import counted, track
from .names import exchange_names
from .parallel import ordered_map
from .reading import FIELDS, LAYOUTS, Layout, find_files, read_stories
from .repertoire import begun_otherwise, repertoire, without_opening

__all__ = ["SPLITS", "CorpusOptions", "CorpusReport", "build_corpus", "read_corpus", "read_report"]

SPLITS = ("train", "valid")
NAMED = 3  # files with one layout that are named in the report
IDLE_ROUNDS = 20  # rounds of templates without a new story, after which there are no more
_SHARES = ("chinese", "near_duplicates", "valid", "valid_templates", "opening", "vary")


@dataclass(frozen=True)
class CorpusOptions:
    """How a corpus is made.

    Args:
        full_width: half-width punctuation beside Chinese becomes full-width.
        min_chars, max_chars: stories outside of these lengths are left out.
        chinese: the least share of Chinese characters; 0.9 leaves out texts with much English.
        near_duplicates: stories of the inputs whose shingles have this Jaccard similarity to an
            earlier one are left out; 0: only exact duplicates are. (Stories drawn from one
            template are similar by intent: of them, only exact duplicates are.)
        valid: the share of the inputs' stories that is kept for validation: at least one story.
        valid_templates: the share of the built-in templates that is kept for validation.
        templates: which of the built-in templates are drawn: all, or the repertoire, those of
            :mod:`tinyzh.train.repertoire`.
        opening: the share of the other stories, drawn for training, that keep the opening of the
            repertoire where they begin with it.
        repeat: how often the training split has each story of the inputs, to give a few real
            ones some weight beside many drawn ones.
        vary: the share of these repetitions in which the heroes have other names and punctuation
            is full-width; the others are as they were read.
        layout: how .txt files hold stories, a key of ``reading.LAYOUTS``; auto: found by looking.
        fields: names that the text may have in .json and .jsonl; the first one found is taken.
        encoding: of all inputs.
        processes: that draw stories; None: one for each core. The corpus does not depend on it.
        plot: write ``lengths.png`` too.
    """

    full_width: bool = False
    min_chars: int = 10
    max_chars: int = 4000
    chinese: float = 0.0
    near_duplicates: float = 0.7
    valid: float = 0.01
    valid_templates: float = 0.05
    templates: Literal["all", "repertoire"] = "all"
    opening: float = 1.0
    repeat: int = 1
    vary: float = 0.0
    layout: Layout = "auto"
    fields: tuple[str, ...] = FIELDS
    encoding: str = "utf-8-sig"
    processes: int | None = None
    plot: bool = True

    def __post_init__(self) -> None:
        if self.templates not in ("all", "repertoire"):
            raise InvalidArgument(f"templates is {self.templates!r}: expected all or repertoire")
        for name in _SHARES:
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InvalidArgument(f"{name} is {value}: expected a share from 0 to 1")
        for name, least in (("min_chars", 1), ("max_chars", self.min_chars), ("repeat", 1)):
            if (value := getattr(self, name)) < least:
                raise InvalidArgument(f"{name} is {value}: expected at least {least}")
        if self.processes is not None and self.processes < 1:
            raise InvalidArgument(f"processes is {self.processes}: expected at least 1")


@dataclass
class Split:
    """What one half of a corpus holds."""

    stories: int = 0
    characters: int = 0
    distinct_characters: int = 0
    shortest: int = 0
    median: int = 0
    longest: int = 0


@dataclass
class CorpusReport:
    """What became of the stories: ``read`` ones of the inputs, ``drawn`` ones of the templates."""

    out: str
    inputs: list[str]
    seed: int
    options: CorpusOptions
    files: int = 0
    layouts: dict[str, str] = field(default_factory=dict)  #: of each .txt file
    read: int = 0
    empty: int = 0
    too_short: int = 0
    too_long: int = 0
    not_chinese: int = 0
    exact_duplicates: int = 0
    near_duplicates: int = 0
    templates: int = 0
    valid_templates: list[str] = field(default_factory=list)
    drawn: int = 0
    drawn_twice: int = 0
    splits: dict[str, Split] = field(default_factory=dict)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"corpus in {self.out} ({self.seconds:.0f} s)"]
        if self.files:
            lines.append(f"  {self.read:>11,} stories read from {counted(self.files, 'file')}")
        for layout, what in LAYOUTS.items():
            if names := [name for name, found in self.layouts.items() if found == layout]:
                shown = ", ".join(names[:NAMED]) + ("…" if len(names) > NAMED else "")
                lines.append(f"{'':13} {shown}: {what}")
        lines += [f"  {-count:>11,} {what}" for count, what in self._left_out()]
        if self.templates:
            lines.append(
                f"  {self.drawn:>+11,} drawn from {self.templates:,} templates, "
                f"{len(self.valid_templates):,} of them only for validation "
                f"({self.drawn_twice:,} drawn twice and left out)"
            )
        lines += [
            f"  {split.stories:>11,} stories in {name}: {split.characters:,} characters, "
            f"{split.distinct_characters:,} different ones; "
            f"lengths {split.shortest:,} to {split.longest:,}, median {split.median:,}"
            for name, split in self.splits.items()
        ]
        return "\n".join(lines)

    def nothing_left(self) -> str:
        """Why there is no corpus, in one line."""
        why = ", ".join(f"{count:,} {what}" for count, what in self._left_out())
        return f"no stories left of {self.read:,} read" + (f": {why}" if why else "")

    def _left_out(self) -> list[tuple[int, str]]:
        options = self.options
        every = [
            (self.empty, "empty"),
            (self.too_short, f"shorter than {options.min_chars:,} characters (--min-chars)"),
            (self.too_long, f"longer than {options.max_chars:,} characters (--max-chars)"),
            (self.not_chinese, f"less than {options.chinese:.0%} Chinese"),
            (self.exact_duplicates, "exact duplicates"),
            (self.near_duplicates, f"near duplicates (similarity {options.near_duplicates})"),
        ]
        return [(count, what) for count, what in every if count]


def build_corpus(
    inputs: Sequence[str | Path],
    out: Path,
    *,
    builtin: int = 0,
    seed: int = 1,
    options: CorpusOptions | None = None,
    progress: bool = True,
) -> CorpusReport:
    """Make a corpus of texts, of ``builtin`` stories from the templates of the project, or both.

    Args:
        inputs: files, folders and globs; see :mod:`tinyzh.train.reading` for their formats.
        out: the folder to write; a corpus that it holds is replaced.
        seed: of the drawn stories and the order of all.

    Raises:
        InvalidArgument: nothing to make a corpus of, or nothing left of it.
        FileError: an input cannot be read.
    """
    began = time.monotonic()
    options, out = options or CorpusOptions(), Path(out)
    if not inputs and builtin < 1:
        raise InvalidArgument("no stories: expected files to read, or a number of built-in ones")
    report = CorpusReport(str(out), [str(name) for name in inputs], seed, options)
    seen: set[bytes] = set()
    read = _read(inputs, out, options, seen, report, progress)
    texts = {name: [text for text, half in read if half == name] for name in SPLITS}
    texts["train"] = _repeated(texts["train"], seed, options)
    drawn = _draw(builtin, seed, options, seen, report)
    show = progress and builtin > 0
    for text, half in track(drawn, "drawing", unit="stories", total=builtin, show=show):
        texts[half].append(text)
    if not any(texts.values()):
        raise InvalidArgument(report.nothing_left())

    out.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        random.Random(f"{seed}/{name}").shuffle(texts[name])
        _write(out / f"{name}.jsonl.gz", texts[name], name, progress)
        report.splits[name] = _measure(texts[name])
    report.seconds = round(time.monotonic() - began, 1)
    if options.plot:
        from .plot import plot_lengths

        plot_lengths({name: list(map(len, texts[name])) for name in SPLITS}, out / "lengths.png")
    with replacing(out / "report.json") as path:
        text = json.dumps(report.to_dict(), ensure_ascii=False, indent=2)
        path.write_text(text + "\n", encoding="utf-8")
    return report


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a corpus, as :meth:`CorpusReport.to_dict` has it.

    Raises:
        FileMissing: there is no corpus.
        FileError: it is damaged.
    """
    path = Path(folder) / "report.json"
    if not path.exists():
        raise FileMissing(f"{path}: no such file; a corpus of `tinyzh train corpus` has one")
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        report["splits"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path}: damaged ({error}); make the corpus again") from None
    return report


def read_corpus(folder: str | Path, split: str = "train") -> Iterator[str]:
    """The stories of one half of a corpus.

    Raises:
        FileMissing: there is no corpus.
    """
    path = Path(folder) / f"{split}.jsonl.gz"
    if not path.exists():
        raise FileMissing(f"{path}: no such file; make the corpus with `tinyzh train corpus`")
    return read_stories(path)


def _read(
    inputs: Sequence[str | Path],
    out: Path,
    options: CorpusOptions,
    seen: set[bytes],
    report: CorpusReport,
    progress: bool,
) -> list[tuple[str, str]]:
    """The stories of the inputs that are kept: (text, half)."""
    paths = find_files(inputs, leave_out=out)
    report.files = len(paths)
    raw = (
        story
        for path in paths
        for story in read_stories(
            path,
            layout=options.layout,
            fields=options.fields,
            encoding=options.encoding,
            tell_layout=partial(report.layouts.__setitem__, str(path)),
        )
    )
    texts, keys = [], []
    for story in track(raw, "reading", unit="stories", show=progress and bool(paths)):
        report.read += 1
        text = clean(story, widen=options.full_width)
        key = comparison_key(text)
        if not key:
            report.empty += 1
        elif len(text) < options.min_chars:
            report.too_short += 1
        elif len(text) > options.max_chars:
            report.too_long += 1
        elif options.chinese and chinese_share(text) < options.chinese:
            report.not_chinese += 1
        elif _digest(key) in seen:
            report.exact_duplicates += 1
        else:
            seen.add(_digest(key))
            texts.append(text)
            keys.append(key)
    if options.near_duplicates and texts:
        shown = track(keys, "comparing", unit="stories", total=len(keys), show=progress)
        gone = set(near_duplicates(keys, options.near_duplicates, shown))
        report.near_duplicates = len(gone)
        texts = [text for i, text in enumerate(texts) if i not in gone]
        keys = [key for i, key in enumerate(keys) if i not in gone]
    return list(zip(texts, _halves(keys, options.valid), strict=True))


def _repeated(texts: Sequence[str], seed: int, options: CorpusOptions) -> list[str]:
    """The stories, as often as they are wanted, some of them varied."""
    rng = random.Random(f"{seed}/vary")
    slots = stories.load_slots(stories.FOLDER / "slots.txt")
    return [
        full_width(exchange_names(text, slots, rng)) if rng.random() < options.vary else text
        for _ in range(options.repeat)
        for text in texts
    ]


def _draw(
    count: int, seed: int, options: CorpusOptions, seen: set[bytes], report: CorpusReport
) -> Iterator[tuple[str, str]]:
    """``count`` different stories of the templates: (text, half)."""
    if count < 1:
        return
    known = {template.title for template in repertoire()}
    only_known = options.templates == "repertoire"
    titles = sorted({t.title for t in stories.builtin()[0] if not only_known or t.title in known})
    report.templates = len(titles)
    half = dict(zip(titles, _halves(titles, options.valid_templates), strict=True))
    report.valid_templates = [title for title in titles if half[title] == "valid"]

    processes = options.processes or min(os.cpu_count() or 1, 1 + count // 20_000)
    idle = 0
    rng = random.Random(f"{seed}/opening")
    telling = partial(_round, seed, only_known)
    with ordered_map(telling, itertools.count(), processes) as rounds:
        for told in rounds:
            idle += 1
            for title, text in told:
                if only_known:
                    text = begun_otherwise(text, rng)
                elif title not in known and half[title] == "train":
                    text = without_opening(text, rng, options.opening)
                digest = _digest(comparison_key(text))
                if digest in seen:
                    report.drawn_twice += 1
                    continue
                idle = 0
                seen.add(digest)
                yield text, half[title]
                report.drawn += 1
                if report.drawn == count:
                    return
            if idle >= IDLE_ROUNDS:
                return


def _round(seed: int, only_known: bool, number: int) -> list[tuple[str, str]]:
    """One round of the built-in templates or the repertoire, in whichever process."""
    templates, slots = stories.builtin()
    return stories.tell_round(repertoire() if only_known else templates, slots, seed, number)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


def _halves(keys: Sequence[str], share: float) -> list[str]:
    """Which half each key belongs to, by nothing but its hash; one at least, if any are wanted."""
    hashes = [int.from_bytes(_digest("half/" + key)[:8], "big") / 2**64 for key in keys]
    if share and len(keys) > 1:
        share = max(share, min(hashes) + 2**-53)
    return ["valid" if value < share else "train" for value in hashes]


def _measure(texts: Sequence[str]) -> Split:
    if not texts:
        return Split()
    lengths = sorted(map(len, texts))
    distinct = len(set().union(*texts))
    middle = lengths[len(lengths) // 2]
    return Split(len(texts), sum(lengths), distinct, lengths[0], middle, lengths[-1])


def _write(path: Path, texts: Iterable[str], name: str, progress: bool) -> None:
    """Compressed lines of JSON, the same bytes for the same stories."""
    with (
        replacing(path) as part,
        open(part, "wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=5, fileobj=raw, mtime=0) as file,
    ):
        for text in track(texts, f"writing {name}", unit="stories", show=progress):
            file.write(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n")
