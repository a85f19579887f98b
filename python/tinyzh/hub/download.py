"""Brings a model of the hub into huggingface_hub's cache, checked, and says where it lies."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import replacing
from ..errors import FileError, FileMissing, InvalidArgument, TinyzhError
from ..extras import require
from ..formats.huggingface import read_config
from .choice import choose
from .failures import NotReached, explained
from .resume import bring

__all__ = ["Pulled", "fetch", "pull", "split_name"]

_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_POINTER = b"version https://git-lfs.github.com/"


@dataclass(frozen=True)
class Pulled:
    """A model of the hub in the cache."""

    path: Path  #: what ``tinyzh.Model`` takes
    name: str  #: ``owner/name``
    revision: str  #: the commit
    format: str  #: as of :class:`Picked`
    files: tuple[Path, ...]
    offline: bool = False  #: taken from the cache, the hub was not asked
    unasked: str = ""  #: why it could not be, if it was to be


def split_name(name: str) -> tuple[str, str | None]:
    """``"owner/name:file"`` -> its parts.

    Raises:
        InvalidArgument: it has another form.
    """
    repository, colon, file = name.partition(":") if isinstance(name, str) else ("", "", "")
    if not _NAME.fullmatch(repository) or (colon and not file):
        raise InvalidArgument(
            f"{name!r:.100} is no name of a model on the hub: expected owner/name or "
            "owner/name:file, such as flyingfishinwater/tinystories_zh (tinyzh.Model opens a path)"
        )
    return repository, file or None


def pull(
    name: str,
    file: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    verify: bool = False,
    progress: bool = True,
) -> Path:
    """Downloads a model, unless it is in the cache already, and returns what Model takes.

    Args:
        name: ``owner/name`` or ``owner/name:file``.
        file: which of the repository's files, or a folder in it; None: what :func:`choose` picks.
        revision: a branch, tag or commit; None: ``main``.
        cache_dir: the cache's folder; None: huggingface_hub's own (HF_HUB_CACHE, HF_HOME).
        local_files_only: ask nobody, take what is in the cache; so does HF_HUB_OFFLINE=1.
        token: for private and gated repositories; None: HF_TOKEN or that of ``hf auth login``.
        verify: check also the files that were in the cache before.
        progress: bars on standard error, if that is a terminal.

    Raises:
        InvalidArgument: no name of a repository; several models fit, and ``file`` is not given.
        FileMissing: no such repository, revision or file; offline, and not in the cache.
        FileError: no connection, no permission, no space; a file is not what it should be.
        MissingPackage: huggingface_hub is not installed.
    """
    return fetch(
        name,
        file,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
        verify=verify,
        progress=progress,
    ).path


def fetch(
    name: str,
    file: str | None = None,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    verify: bool = False,
    progress: bool = True,
) -> Pulled:
    """As :func:`pull`; returns also which commit and which files."""
    name, file_of_name = split_name(name)
    if file is not None and file_of_name is not None:
        raise InvalidArgument(f"file is given twice, {file_of_name} and {file}: leave one out")
    hub = require("huggingface_hub", "hub", f"{name} is a model on the hub")
    for part in ("constants", "utils"):  # which the package imports when it needs them itself
        require(f"huggingface_hub.{part}", "hub")
    where = _Repository(hub, name, revision or "main", cache_dir, token)
    file = file or file_of_name
    if local_files_only or hub.constants.HF_HUB_OFFLINE:
        return where.cached(file, None)
    try:
        info = where.listing()
    except NotReached as error:
        return where.cached(file, error)
    return where.downloaded(info, file, verify, progress)


@dataclass(frozen=True)
class _Repository:
    hub: Any  #: the module huggingface_hub
    name: str
    revision: str
    cache_dir: str | os.PathLike[str] | None
    token: str | bool | None

    def listing(self) -> Any:
        """Commit and files, with their hashes."""
        with explained(self.hub, self.name, self.revision):
            return self.hub.HfApi(token=self.token).model_info(
                self.name, revision=self.revision, files_metadata=True
            )

    def downloaded(self, info: Any, file: str | None, verify: bool, progress: bool) -> Pulled:
        """All of it, checked; what the cache has already is neither asked for nor hashed."""
        commit, entries = info.sha, {entry.rfilename: entry for entry in info.siblings}
        with _in(self.name):
            choice = choose([name for name in entries if _is_inside(name)], file)
        # A model that the engine does not compute is refused before its weights are downloaded.
        config = f"{choice.path}/config.json".removeprefix("/") if choice.is_folder else None
        paths: dict[str, Path] = {}
        for name in reversed(choice.files):  # the weights last: without them it is no model
            was_there = self._is_cached(name, commit)
            paths[name] = self._file(entries[name], commit, progress)
            self._check(paths[name], entries[name], contents=verify or not was_there)
            if name == config:
                with _in(self.name):
                    read_config(paths[name])
        folder = paths[name].parents[name.count("/")]
        self._remember(folder)
        files = tuple(paths[name] for name in choice.files)
        return Pulled(folder / choice.path, self.name, commit, choice.format, files)

    def cached(self, file: str | None, error: NotReached | None) -> Pulled:
        """What the cache holds; ``error`` is why nobody can be asked, None that nobody may."""
        try:
            folder = self._snapshot()
            held = sorted(f for f in folder.rglob("*") if f.is_file())
            files = [f.relative_to(folder).as_posix() for f in held]
            with _in(f"{self.name}, in the cache"):
                choice = choose(files, file)
        except FileMissing:
            if error is None:
                raise
            raise error from error.__cause__
        paths = tuple(folder / f for f in choice.files)
        unasked = str(error or "")
        return Pulled(
            folder / choice.path, self.name, folder.name, choice.format, paths, True, unasked
        )

    def _file(self, entry: Any, commit: str, progress: bool) -> Path:
        """Downloads one file.  One at a time, since Ctrl-C does not stop huggingface_hub's threads
        and would leave files in the cache that nobody has checked."""
        with explained(self.hub, self.name, commit), _bars(self.hub, progress):
            bring(
                self.hub,
                self.name,
                entry.rfilename,
                commit,
                size=entry.size,
                hash=_hash(entry),
                cache_dir=self.cache_dir,
                token=self.token,
            )
            return Path(
                self.hub.hf_hub_download(
                    self.name,
                    entry.rfilename,
                    revision=commit,
                    cache_dir=self.cache_dir,
                    token=self.token,
                )
            )

    def _is_cached(self, file: str, commit: str) -> bool:
        found = self.hub.try_to_load_from_cache(
            self.name, file, cache_dir=self.cache_dir, revision=commit
        )
        return isinstance(found, str)

    def _remember(self, folder: Path) -> None:
        """Notes which commit a branch is, as huggingface_hub does, for when nobody can be asked;
        now that all of it is there, so that until then the cache has what it had."""
        note = folder.parents[1] / "refs" / self.revision
        if self.revision == folder.name:
            return
        with suppress(OSError):  # a cache that is only read
            if note.exists() and note.read_text() == folder.name:
                return
            note.parent.mkdir(parents=True, exist_ok=True)
            with replacing(note) as part:
                part.write_text(folder.name)

    def _snapshot(self) -> Path:
        try:
            with explained(self.hub, self.name, self.revision):
                return Path(
                    self.hub.snapshot_download(
                        self.name,
                        revision=self.revision,
                        cache_dir=self.cache_dir,
                        local_files_only=True,
                        allow_patterns=[],  # whether all of it is there is not the question
                    )
                )
        except FileMissing:
            at = "" if self.revision == "main" else f" at {self.revision}"
            cache = self.cache_dir or self.hub.constants.HF_HUB_CACHE
            raise FileMissing(
                f"{self.name}: not in the cache {os.fspath(cache)}{at}, and nobody may be asked "
                "(HF_HUB_OFFLINE or local_files_only): pull it once with a connection"
            ) from None

    def _check(self, path: Path, entry: Any, *, contents: bool) -> None:
        """Whether a file is what the hub says: its length always, its content if asked to."""
        size = path.stat().st_size
        with path.open("rb") as stream:
            pointer = stream.read(len(_POINTER)) == _POINTER
        wanted = entry.size  # None: this hub does not say
        if pointer and size != wanted:
            problem = f"a Git LFS pointer of {size} bytes in place of the file"
        elif wanted is not None and size != wanted:
            problem = f"{size} bytes instead of {wanted}"
        elif (contents or pointer) and (difference := _difference(path, entry)):
            problem = difference
        elif pointer:
            problem = "a Git LFS pointer, which is all that this hub has of the file"
        else:
            return
        _remove(path)
        raise FileError(
            f"{self.name}: {path.name} from {self.hub.constants.ENDPOINT} is {problem}; it was "
            "removed from the cache: pull again, and if that is no better, set HF_ENDPOINT to "
            "another mirror"
        )


def _hash(entry: Any) -> str | None:
    """What the hub says of a file's content: SHA-256 of one in Git LFS, Git's SHA-1 of another."""
    return entry.lfs["sha256"] if entry.lfs is not None else entry.blob_id or None


def _difference(path: Path, entry: Any) -> str | None:
    """How a file's hash differs from what the hub says; None: it does not, or nothing is said."""
    if (wanted := _hash(entry)) is None:
        return None
    if entry.lfs is not None:
        digest, kind = hashlib.sha256(), "SHA-256"
    else:
        digest, kind = hashlib.sha1(usedforsecurity=False), "Git's SHA-1"
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    found = digest.hexdigest()
    return None if found == wanted else f"of another {kind}, {found:.12}… instead of {wanted:.12}…"


def _remove(path: Path) -> None:
    """A file of the cache with the links that lead to it, which a new download would trust."""
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def _is_inside(path: str) -> bool:
    """Whether a server's path stays within the folder that it is put into."""
    return not path.startswith("/") and not {"..", ""} & set(re.split(r"[/\\]", path))


@contextmanager
def _in(name: str) -> Iterator[None]:
    """Errors that say of what they speak."""
    try:
        yield
    except TinyzhError as error:
        raise type(error)(f"{name}: {error}") from None


@contextmanager
def _bars(hub: Any, shown: bool) -> Iterator[None]:
    """huggingface_hub's progress bars, which are for terminals only, or none of them."""
    if shown or hub.utils.are_progress_bars_disabled():
        yield
        return
    hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        hub.utils.enable_progress_bars()
