"""Files that somebody gave us: read if they are files, and named for what they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from . import _core
from .errors import FileError, FileMissing

__all__ = ["is_folder", "not_what_was_wanted", "read", "size_of", "start_of"]

_START = 4096  # bytes by which a kind of file is told

_KINDS = ((stat.S_ISFIFO, "a pipe (FIFO)"), (stat.S_ISSOCK, "a socket"))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder, or else a regular file.

    Raises:
        FileMissing, FileError: it is neither: not there, a pipe, a device, no path at all.
    """
    return stat.S_ISDIR(_status(path).st_mode)


def size_of(path: str | os.PathLike[str]) -> int:
    """Bytes of a regular file; FileMissing, FileError: it is none."""
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise FileError(f"{os.fspath(path)}: is a directory; give the path of a regular file")
    return status.st_size


def _status(path: str | os.PathLike[str]) -> os.stat_result:
    """Of a file or folder.  Nothing else is opened: a pipe would be waited for, for ever."""
    name = os.fspath(path) or "''"
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileMissing(f"{name}: no such file") from None
    except OSError as error:
        raise FileError(f"{name:.300}: {error.strerror}") from None
    except ValueError:
        raise FileError(f"{name!r:.300} is no path: it holds a character of no file name") from None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        kind = next((words for test, words in _KINDS if test(status.st_mode)), "a device")
        raise FileError(f"{name}: is {kind}; give the path of a regular file")
    return status


def read(path: str | os.PathLike[str]) -> bytes:
    """All of a regular file; FileMissing, FileError: it is none, or cannot be read."""
    return _read(path, -1)


def start_of(path: str | os.PathLike[str]) -> bytes:
    """Enough of a regular file to tell what it is; FileMissing, FileError."""
    return _read(path, _START)


def _read(path: str | os.PathLike[str], most: int) -> bytes:
    size_of(path)
    try:
        with Path(path).open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise FileError(f"{os.fspath(path)}: {error.strerror}") from None


def not_what_was_wanted(
    path: str | os.PathLike[str],
    data: bytes,
    wanted: str,
    remedy: str,
    *,
    reason: str = "",
    own: tuple[str, ...] = (),
) -> str:
    """A message that names what a file is.

    Args:
        data: at least its beginning.
        wanted: what it should be, such as ``a SentencePiece model``.
        remedy: what to do, unless what it is says better.
        reason: what is wrong with it where nothing is known of its kind.
        own: how the name of the wanted kind begins, which is no news then.
    """
    kind, better = _core.what_is(data) if data else ("empty (0 bytes)", "")
    if kind and not kind.startswith(own or ("\0",)):
        return f"{os.fspath(path)}: not {wanted} but {kind}; {better or remedy}"
    return f"{os.fspath(path)}: not {wanted}{f' ({reason:.200})' if reason else ''}; {remedy}"
