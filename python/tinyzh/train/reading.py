"""Reading stories from files: .txt, .json, .jsonl, each also as .gz; folders and globs."""

from __future__ import annotations

import glob
import gzip
import io
import itertools
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

from ..errors import FileError, FileMissing, InvalidArgument

__all__ = ["FIELDS", "KINDS", "LAYOUTS", "Layout", "find_files", "read_stories", "read_texts"]

Layout = Literal["auto", "lines", "blocks", "gaps", "file"]
"""How a .txt file holds stories."""

LAYOUTS = {
    "lines": "one story a line",
    "blocks": "stories between blank lines",
    "gaps": "stories between two or more blank lines",
    "file": "one story in the file",
}
KINDS = (".txt", ".json", ".jsonl")
FIELDS = ("text", "story")
HEAD = 1 << 16  # characters looked at to tell the layouts apart
LINES_OF_A_STORY = 20  # or paragraphs: what would make stories of more separates no stories
LONG_STORY = 4000  # characters; what would make longer ones than this separates no stories

_STANDARD_INPUT = Path("-")


def find_files(inputs: Sequence[str | Path], *, leave_out: Path | None = None) -> list[Path]:
    """The files that paths, folders (with all below them) and globs name, each once.

    ``-`` is standard input, which is read as a .txt file. ``leave_out`` is a folder that a folder
    or a glob among the inputs may contain: the output.

    Raises:
        FileMissing: an input names nothing.
        InvalidArgument: a file of a kind that cannot be read.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        path = Path(name)
        if path.is_file() or path == _STANDARD_INPUT:
            if not _kind(path):
                raise InvalidArgument(
                    f"{path}: cannot read a {path.suffix or 'nameless'} file as stories; "
                    f"expected one of {', '.join(KINDS)}, each also with .gz"
                )
            found[path] = None
            continue
        # A folder's name is taken as it is, whatever it would mean as a pattern.
        matched = [path] if path.is_dir() else [Path(p) for p in _matching(str(name))]
        inside = list(itertools.chain.from_iterable(map(_below, matched)))
        if leave_out is not None:
            away = leave_out.resolve()
            inside = [p for p in inside if away not in p.resolve().parents]
        files = [p for p in inside if p.is_file() and _kind(p) and not _is_report(p)]
        if not files:
            what = "no stories" if matched else "no such file or folder"
            raise FileMissing(
                f"{name}: {what}; expected files that end in {', '.join(KINDS)}, or these with .gz"
            )
        found.update(dict.fromkeys(files))
    return list(found)


def read_stories(
    path: Path,
    *,
    layout: Layout = "auto",
    fields: Sequence[str] = FIELDS,
    encoding: str = "utf-8-sig",
    tell_layout: Callable[[Layout], None] = lambda layout: None,
) -> Iterator[str]:
    """The stories of one file, as they stand there.

    Args:
        layout: of a .txt file; auto: found out by looking.
        fields: names that the text may have in .json and .jsonl; the first one found is taken.
        tell_layout: told the layout of a .txt file.

    Raises:
        FileError: it cannot be read, or does not hold stories; the message names the place.
        InvalidArgument: an unknown layout or encoding.
    """
    if layout not in get_args(Layout):
        raise InvalidArgument(f"layout is {layout!r}: expected one of {get_args(Layout)}")
    _check_encoding(encoding)
    where = "standard input" if path == _STANDARD_INPUT else str(path)
    try:
        with _open(path, encoding) as file:
            if _kind(path) == ".txt":
                yield from _text(file, layout, tell_layout)
            elif _kind(path) == ".json":
                yield from _json(file, where, fields)
            else:
                yield from _json_lines(file, where, fields)
    except UnicodeError as error:
        if damage := _damage(path):
            raise FileError(f"{where}: damaged ({damage})") from None
        why = str(error)
        if isinstance(error, UnicodeDecodeError):
            why = f"{error.reason} at byte {error.start}"
        raise FileError(
            f"{where}: not {encoding.removesuffix('-sig')} text ({why}): name its encoding with "
            "--encoding, for example gb18030"
        ) from None
    except (EOFError, zlib.error) as error:
        raise FileError(f"{where}: damaged ({error})") from None
    except OSError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{where}: {error.strerror or error}") from None


def read_texts(
    paths: Sequence[str | Path],
    *,
    layout: Layout = "auto",
    fields: Sequence[str] = FIELDS,
    encoding: str = "utf-8-sig",
) -> list[str]:
    """The stories of files and folders of any kind that can be read, without spaces around."""
    texts = [
        text.strip()
        for path in find_files(paths)
        for text in read_stories(path, layout=layout, fields=fields, encoding=encoding)
    ]
    return [text for text in texts if text]


# ---- files --------------------------------------------------------------------------------------


def _matching(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern, recursive=True))


def _below(path: Path) -> list[Path]:
    """A folder's files, or the file itself."""
    if not path.is_dir():
        return [path]
    return [Path(p) for p in _matching(f"{glob.escape(str(path))}/**/*")]


def _is_report(path: Path) -> bool:
    """Whether a file says of a corpus how it was made, so that a corpus can be an input."""
    return path.name == "report.json" and path.with_name("train.jsonl.gz").exists()


def _kind(path: Path) -> str:
    if path == _STANDARD_INPUT:
        return ".txt"
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in KINDS else ""


def _open(path: Path, encoding: str) -> IO[str]:
    if path == _STANDARD_INPUT:
        if sys.stdin is None:
            raise FileError("standard input: it is closed")
        return io.TextIOWrapper(io.BytesIO(sys.stdin.buffer.read()), encoding=encoding)
    if path.suffix.lower() == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding=encoding))
    return open(path, encoding=encoding)


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError):  # "undefined" has no text
        raise InvalidArgument(
            f"encoding is {encoding!r}, which Python does not know: expected such as utf-8, "
            "gb18030, big5 or utf-16"
        ) from None


def _damage(path: Path) -> str:
    """What is wrong with a compressed file: out of a damaged one comes anything."""
    if path.suffix.lower() == ".gz":
        try:
            with gzip.open(path) as file:
                while file.read(1 << 20):
                    pass
        except (OSError, EOFError, zlib.error) as error:
            return str(error)
    return ""


# ---- .txt ---------------------------------------------------------------------------------------


def _text(file: IO[str], layout: Layout, tell_layout: Callable[[Layout], None]) -> Iterator[str]:
    head = file.read(HEAD)
    lines = _lines(head, file)
    if layout == "auto":
        layout = _detect(head)
    tell_layout(layout)
    if layout == "file":
        yield "".join(lines)
    elif layout == "lines":
        yield from (line for line in lines if line.strip())
    else:
        yield from _separated(lines, 2 if layout == "gaps" else 1)


def _separated(lines: Iterable[str], blank: int) -> Iterator[str]:
    """What stands between at least so many blank lines."""
    block: list[str] = []
    empty = 0
    for line in lines:
        if not line.strip():
            empty += 1
            continue
        if block and empty >= blank:
            yield "".join(block)
            block = []
        block += ["\n"] * empty if block else []
        block.append(line)
        empty = 0
    if block:
        yield "".join(block)


def _lines(head: str, rest: Iterable[str]) -> Iterator[str]:
    """The lines of a file of which ``head`` has already been read."""
    started = list(io.StringIO(head))  # where a file's lines end; splitlines() knows other places
    last = started.pop() if started and not started[-1].endswith("\n") else ""
    yield from started
    for line in rest:
        yield last + line
        last = ""
    if last:
        yield last


def _detect(head: str) -> Layout:
    """Blank lines separate stories if they stand at the distances at which stories do.

    Then single ones separate paragraphs, if there are also runs of them at such distances.
    """
    filled = [bool(line.strip()) for line in io.StringIO(head.strip())]
    runs = [len(list(run)) for full, run in itertools.groupby(filled) if not full]
    if not runs or sum(filled) > LINES_OF_A_STORY * (len(runs) + 1):
        return "lines"
    gaps = sum(run > 1 for run in runs)
    parted = gaps * LINES_OF_A_STORY >= len(runs) and len(head) <= LONG_STORY * (gaps + 1)
    return "gaps" if parted else "blocks"


# ---- .json and .jsonl ---------------------------------------------------------------------------


def _json(file: IO[str], where: str, fields: Sequence[str]) -> Iterator[str]:
    try:
        data = json.load(file)
    except json.JSONDecodeError as error:
        raise FileError(
            f"{where}:{error.lineno}: not JSON ({error.msg}); one object a line is a .jsonl"
        ) from None
    except (RecursionError, ValueError) as error:
        raise _unreadable(where, error) from None
    if not isinstance(data, list):
        raise FileError(f"{where}: expected a list of stories, found {_name(data)}")
    for number, item in enumerate(data, 1):
        yield _story(item, f"{where}: story {number}", fields)


def _json_lines(file: IO[str], where: str, fields: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileError(f"{where}:{number}: not JSON ({error.msg})") from None
        except (RecursionError, ValueError) as error:
            raise _unreadable(f"{where}:{number}", error) from None
        yield _story(item, f"{where}:{number}", fields)


def _unreadable(where: str, error: Exception) -> Exception:
    """What to raise for JSON that Python does not take, though it may be correct."""
    if isinstance(error, UnicodeError):
        return error
    what = "lists or objects too deep in each other" if isinstance(error, RecursionError) else error
    return FileError(f"{where}: cannot be read ({what})")


def _story(item: Any, place: str, fields: Sequence[str]) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        for field in fields:
            if isinstance(item.get(field), str):
                return str(item[field])
        raise FileError(
            f"{place}: no text under {' or '.join(fields)}, only {', '.join(map(str, item))}: "
            "name the field that holds the story with --field"
        )
    raise FileError(f"{place}: expected a string or an object, found {_name(item)}")


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "null", bool: "a truth value"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else "a string")
