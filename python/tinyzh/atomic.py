"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FileError, TinyzhError

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` at the end, or goes when there is an error.

    Raises:
        FileError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with _named(path):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of the system becomes one that says what could not be written."""
    try:
        yield
    except TinyzhError:
        raise
    except OSError as error:
        where = Path(os.fsdecode(error.filename or path))
        ours = (path, path.parent, path.with_name(f"{path.name}.part"))
        if where not in ours:  # a file that was to be read, then
            raise
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
