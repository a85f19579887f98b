"""What goes wrong between here and the hub, said as tinyzh says it: one line, with the remedy."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import FileError, FileMissing, InvalidArgument, MissingPackage, TinyzhError

__all__ = ["NotReached", "explained"]

_HTTP_LIBRARIES = ("httpx", "httpx2", "httpcore", "requests", "urllib3")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class NotReached(FileError):
    """The hub does not answer: whoever has the model in the cache need not care."""


@contextmanager
def explained(hub: Any, name: str, revision: str | None) -> Iterator[None]:
    """Errors of huggingface_hub and of what it uses become tinyzh's.

    Args:
        hub: the module huggingface_hub.
        name: the repository.
        revision: what was asked for of it.
    """
    try:
        yield
    except TinyzhError:
        raise
    except ImportError as error:  # one that huggingface_hub itself imports late
        raise MissingPackage(f"{error}: pip install -U 'tinyzh[hub]'", name=error.name) from None
    except Exception as error:
        meaning = _meaning(hub, error, name, revision)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(hub: Any, error: BaseException, name: str, revision: str | None) -> TinyzhError | None:
    if isinstance(error, hub.utils.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # nothing in the cache to fall back on, which is no news
    return _of_the_hub(hub, error, name, revision) or _of_the_machine(
        error, name, hub.constants.ENDPOINT
    )


def _of_the_hub(
    hub: Any, error: BaseException, name: str, revision: str | None
) -> TinyzhError | None:
    utils, endpoint = hub.utils, hub.constants.ENDPOINT
    if isinstance(error, utils.HFValidationError):
        return InvalidArgument(f"{name}: {_first_line(error)}")
    if isinstance(error, utils.GatedRepoError):
        return FileError(
            f"{name}: is gated; accept its conditions at {endpoint}/{name} and give the token of "
            "your account (hf auth login, HF_TOKEN or token=)"
        )
    if isinstance(error, utils.RepositoryNotFoundError):
        return FileMissing(
            f"{name}: no such repository at {endpoint}, or it is private: check the spelling, or "
            "give a token that may read it (hf auth login, HF_TOKEN or token=)"
        )
    if isinstance(error, utils.RevisionNotFoundError):
        return FileMissing(
            f"{name}: no revision {revision}; take a branch, tag or commit of {endpoint}/{name}"
        )
    if isinstance(error, utils.EntryNotFoundError):
        return FileMissing(f"{name}: {_first_line(error)}; it may just have changed: try again")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return FileError(
            f"{name}: {endpoint} refuses the token; make a new one (hf auth login), or correct "
            "HF_TOKEN or token="
        )
    if status == 403:
        return FileError(f"{name}: {endpoint} forbids it to this token ({_first_line(error)})")
    if status == 429 or (status is not None and status >= 500):
        return NotReached(
            f"{name}: {endpoint} answers {status} just now: try again later, or set HF_ENDPOINT to "
            "a mirror"
        )
    if isinstance(error, utils.HfHubHTTPError):
        return FileError(f"{name}: {_first_line(error)}")
    return None


def _of_the_machine(error: BaseException, name: str, endpoint: str) -> TinyzhError | None:
    if "Consistency check failed" in str(error):
        return FileError(
            f"{name}: {_first_line(error)} A cut connection, or a mirror that sends another file "
            f"(a Git LFS pointer, say): try again, or another HF_ENDPOINT than {endpoint}"
        )
    if isinstance(error, json.JSONDecodeError) or type(error).__name__ == "FileMetadataError":
        return NotReached(
            f"{name}: {endpoint} does not answer as a hub does ({_first_line(error)}): check "
            "HF_ENDPOINT, and that no log-in page of the network is in between"
        )
    of_http = type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES
    if of_http or isinstance(error, (ConnectionError, TimeoutError)):
        return NotReached(_no_connection(name, endpoint, error))
    if isinstance(error, OSError) and error.errno in _FULL:
        return FileError(
            f"{error.filename or name}: {error.strerror}; free some space, or choose another "
            "folder by HF_HOME or cache_dir="
        )
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        return FileError(
            f"{error.filename or name}: {error.strerror}; choose a folder that may be written by "
            "HF_HOME or cache_dir="
        )
    if isinstance(error, OSError):
        return FileError(f"{name}: {_first_line(error)}")
    if isinstance(error, RuntimeError):  # what hf_xet raises
        return FileError(
            f"{name}: {_first_line(error)}; try again, or with HF_HUB_DISABLE_XET=1, which "
            "downloads in the ordinary way"
        )
    return None


def _no_connection(name: str, endpoint: str, error: BaseException) -> str:
    return (
        f"{name}: no connection to {endpoint} ({_first_line(error)}); check the network, or set "
        "HF_ENDPOINT to a mirror such as https://hf-mirror.com"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)
