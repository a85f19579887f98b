"""Reading stories from files: .txt, .json, .jsonl, each also as .gz; folders and globs."""

from __future__ import annotations

import glob
import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

from ..errors import FileError, FileMissing, InvalidArgument

__all__ = ["FIELDS", "KINDS", "Layout", "find_files", "read_stories", "read_texts"]

Layout = Literal["auto", "lines", "blocks", "file"]
"""How a .txt file holds stories: one a line, between blank lines, or one in the whole file."""

KINDS = (".txt", ".json", ".jsonl")
FIELDS = ("text", "story")
HEAD = 1 << 16  # characters looked at to tell lines from blocks
LINES_OF_A_STORY = 20  # with more lines than this between blank ones, each line is a story


def find_files(inputs: Sequence[str | Path], *, leave_out: Path | None = None) -> list[Path]:
    """The files that paths, folders (with all below them) and globs name, each once.

    ``leave_out`` is a folder that a folder or a glob among the inputs may contain: the output.

    Raises:
        FileMissing: an input names nothing.
        InvalidArgument: a file of a kind that cannot be read.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        path = Path(name)
        if path.is_file():
            if not _kind(path):
                raise InvalidArgument(
                    f"{path}: cannot read a {path.suffix or 'nameless'} file as stories; "
                    f"expected one of {', '.join(KINDS)}, each also with .gz"
                )
            found[path] = None
            continue
        pattern = str(path / "**" / "*") if path.is_dir() else str(name)
        inside = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]
        if leave_out is not None:
            away = leave_out.resolve()
            inside = [p for p in inside if away not in p.resolve().parents]
        files = [p for p in inside if p.is_file() and _kind(p) and not _is_report(p)]
        if not files:
            what = "no such file or folder" if not inside and not path.is_dir() else "no stories"
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
) -> Iterator[str]:
    """The stories of one file, as they stand there.

    Raises:
        FileError: it cannot be read, or does not hold stories; the message names the place.
    """
    if layout not in get_args(Layout):
        raise InvalidArgument(f"layout is {layout!r}: expected one of {get_args(Layout)}")
    try:
        with _open(path, encoding) as file:
            if _kind(path) == ".txt":
                yield from _text(file, layout)
            elif _kind(path) == ".json":
                yield from _json(file, path, fields)
            else:
                yield from _json_lines(file, path, fields)
    except UnicodeDecodeError as error:
        raise FileError(
            f"{path}: not {encoding.removesuffix('-sig')} text ({error.reason} at byte "
            f"{error.start}); pass its encoding, for example gb18030"
        ) from None
    except (OSError, EOFError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def read_texts(paths: Sequence[str | Path]) -> list[str]:
    """The stories of files and folders of any kind that can be read, without spaces around."""
    texts = [text.strip() for path in find_files(paths) for text in read_stories(path)]
    return [text for text in texts if text]


def _is_report(path: Path) -> bool:
    """Whether a file says of a corpus how it was made, so that a corpus can be an input."""
    return path.name == "report.json" and path.with_name("train.jsonl.gz").exists()


def _kind(path: Path) -> str:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in KINDS else ""


def _open(path: Path, encoding: str) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return cast(IO[str], gzip.open(path, "rt", encoding=encoding))
    return open(path, encoding=encoding)


def _text(file: IO[str], layout: Layout) -> Iterator[str]:
    head = file.read(HEAD)
    lines = _lines(head, file)
    if layout == "auto":
        layout = _detect(head)
    if layout == "file":
        yield "".join(lines)
    elif layout == "lines":
        yield from (line for line in lines if line.strip())
    else:
        block: list[str] = []
        for line in lines:
            if line.strip():
                block.append(line)
            elif block:
                yield "".join(block)
                block = []
        if block:
            yield "".join(block)


def _lines(head: str, rest: Iterable[str]) -> Iterator[str]:
    """The lines of a file of which ``head`` has already been read."""
    started = head.splitlines(keepends=True)
    last = started.pop() if started and not started[-1].endswith("\n") else ""
    yield from started
    for line in rest:
        yield last + line
        last = ""
    if last:
        yield last


def _detect(head: str) -> Layout:
    """Blocks, if blank lines stand at the distances at which they stand between stories."""
    lines = [line.strip() for line in head.splitlines()]
    starts = sum(bool(line) and (i == 0 or not lines[i - 1]) for i, line in enumerate(lines))
    filled = sum(map(bool, lines))
    return "blocks" if starts > 1 and filled <= LINES_OF_A_STORY * starts else "lines"


def _json(file: IO[str], path: Path, fields: Sequence[str]) -> Iterator[str]:
    try:
        data = json.load(file)
    except json.JSONDecodeError as error:
        raise FileError(
            f"{path}:{error.lineno}: not JSON ({error.msg}); one object a line is a .jsonl"
        ) from None
    if not isinstance(data, list):
        raise FileError(f"{path}: expected a list of stories, found {_name(data)}")
    for number, item in enumerate(data, 1):
        yield _story(item, f"{path}: story {number}", fields)


def _json_lines(file: IO[str], path: Path, fields: Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileError(f"{path}:{number}: not JSON ({error.msg})") from None
        yield _story(item, f"{path}:{number}", fields)


def _story(item: Any, place: str, fields: Sequence[str]) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        for field in fields:
            if isinstance(item.get(field), str):
                return str(item[field])
        raise FileError(
            f"{place}: no text under {' or '.join(fields)}, only {', '.join(map(str, item))}; "
            "name the field that holds the story"
        )
    raise FileError(f"{place}: expected a string or an object, found {_name(item)}")


def _name(value: Any) -> str:
    names = {dict: "an object", list: "a list", type(None): "null", bool: "a truth value"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else "a string")
