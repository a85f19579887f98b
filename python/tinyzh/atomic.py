"""Files that are whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import FileError, TinyzhError

__all__ = ["replacing", "replacing_folder"]

_PART = ".part-"  # how the name of a folder begins that is not whole yet


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
def replacing_folder(folder: Path, stale: Callable[[str], bool]) -> Iterator[Path]:
    """A folder to write files to; ``folder`` gets them when all are whole, or none.

    Args:
        folder: made if it is not there.
        stale: whether a file that is there goes when the new ones come, by its name.

    Raises:
        FileError: it cannot be written.
    """
    there = folder.is_dir()
    with _named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # On the same disk, and of the usual mode, which a temporary folder itself has not.
        around = Path(tempfile.mkdtemp(prefix=_PART, dir=folder if there else folder.parent))
    try:
        with _named(folder):
            part = around / "new"
            part.mkdir()
            yield part
            if there:
                _move(part, folder, stale)
            else:
                part.rename(folder)
    finally:
        shutil.rmtree(around, ignore_errors=True)


def _move(part: Path, folder: Path, stale: Callable[[str], bool]) -> None:
    new = [path.name for path in part.iterdir()]
    for name in new:
        os.replace(part / name, folder / name)
    for path in folder.iterdir():
        if stale(path.name) and path.name not in new:
            path.unlink()


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
        if where not in ours and _PART not in str(where):  # a file that was to be read, then
            raise
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error
