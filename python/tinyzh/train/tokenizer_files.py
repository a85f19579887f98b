"""The files of a trained tokenizer: ``.model`` and ``.bin``, two forms of one."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from ..atomic import replacing
from ..errors import FileMissing, InvalidArgument, TinyzhError
from ..tokenizer import open_tokenizer

__all__ = ["copy_trained", "find_trained", "forms_of", "sha256"]

_SUFFIXES = (".model", ".bin")


def find_trained(path: Path) -> Path:
    """A trained tokenizer's file, by its own name or that of its folder.

    Raises:
        FileMissing: there is none.
        InvalidArgument: another kind of file.
    """
    if path.is_dir():
        for suffix in _SUFFIXES:
            if (file := path / f"tokenizer{suffix}").exists():
                return file
        raise FileMissing(f"{path}: holds no tokenizer.model or tokenizer.bin")
    if not path.exists():
        raise FileMissing(f"{path}: no such file")
    if path.suffix not in _SUFFIXES:
        raise InvalidArgument(f"{path}: expected a tokenizer, whose name ends in .model or .bin")
    return path


def forms_of(tokenizer: Path) -> list[Path]:
    """The file and the other form of it that is beside it, if there is one."""
    size = open_tokenizer(tokenizer).vocab_size
    forms = [tokenizer]
    for suffix in _SUFFIXES:
        other = tokenizer.with_suffix(suffix)
        with suppress(TinyzhError):  # a checkpoint, say: story.bin beside story.model
            if other != tokenizer and open_tokenizer(other, size):
                forms.append(other)
    return forms


def copy_trained(tokenizer: Path, folder: Path, name: str = "tokenizer") -> list[Path]:
    """Copies all forms to where they are needed, as ``name.model`` and ``name.bin``."""
    copies = []
    folder.mkdir(parents=True, exist_ok=True)
    for form in forms_of(tokenizer):
        copy = folder / f"{name}{form.suffix}"
        data = form.read_bytes()
        if not copy.exists() or copy.read_bytes() != data:
            with replacing(copy) as part:
                part.write_bytes(data)
        copies.append(copy)
    return copies


def sha256(path: Path) -> str:
    """A file's hash, in hexadecimal digits."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileMissing(f"{path}: no such file") from None
    return hashlib.sha256(data).hexdigest()
