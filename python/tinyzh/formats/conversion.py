"""From any format to any other, in that format's own words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from .. import _core
from ..atomic import replacing
from ..errors import FileError, InvalidArgument, MissingPackage, TokenizerError
from ..sampling import SamplingParams
from ..special import LLAMA2C, Special
from ..tokenizer import (
    BinTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    find_tokenizer,
    fitting,
    open_tokenizer,
)
from .found import Found, open_path
from .huggingface_writer import is_of_a_model, write_folder
from .pieces import Pieces, difference
from .tokenizer_json import JsonTokenizer

__all__ = [
    "DTYPES",
    "FILES",
    "Conversion",
    "Progress",
    "checked_dtype",
    "convert",
    "format_of_name",
]

#: What each format can hold; the first is what ``auto`` means, for tz the precision of the source.
DTYPES = {
    "v0": ("float32",),
    "v1": ("float32",),
    "v2": ("int8",),
    "tz": ("auto", "float32", "int8", "int4"),
    "hf": ("float32", "float16"),
    "gguf": ("float32", "float16", "int8"),
}
FILES = ("v0", "v1", "v2", "tz")  # written by the core; the tokenizer lies beside them

Progress = Callable[[int, int, str], object]  # told how much of how much, and what is done


@dataclass
class Conversion:
    """What was written."""

    target: Path
    format: str
    dtype: str  #: of ``DTYPES[format]``
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  #: what one should know about it
    tokenizer: Tokenizer | None = None  #: the one that went along
    special: Special = LLAMA2C  #: what begins and ends a text


def format_of_name(target: str) -> str | None:
    """The format that a name stands for; None: it says nothing."""
    if target.endswith(("/", os.sep)) or os.path.isdir(target):
        return "hf"
    suffix = os.path.splitext(target)[1]
    return {".gguf": "gguf", ".tz": "tz", "": "hf"}.get(suffix)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    format: str,
    *,
    dtype: str = "auto",
    group_size: int = 0,
    tokenizer: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress = lambda done, total, what: None,
) -> Conversion:
    """Writes a model in another format, its tokenizer with it.

    Args:
        source: whatever ``Model`` opens from a path.
        target: the file, or of ``hf`` the folder; each file appears when it is whole.
        format: v0, v1 (fp32), v2 (int8), tz, hf or gguf.
        dtype: one of ``DTYPES[format]``.
        group_size: of v2: weights that share a scale; 0: 64 or what divides dim.
        tokenizer: its path; None: the one that belongs to the source, if there is one.
        progress: told how far it is: ``reading`` (and ``packing``), then ``writing``.
        force: replace what is there; of another model nothing is left that would be read with the
            new one.  Files of the source are never replaced.

    Raises:
        InvalidArgument: a format or dtype that is not there, or that cannot hold the model; the
            target is a file of the source.
        MissingPackage: the format needs a package that is not installed.
        CheckpointError, FileError: the source cannot be read, the target not written.
    """
    dtype = checked_dtype(format, dtype)
    found, target = open_path(source), Path(target)
    done = Conversion(target, format, dtype)
    _take_tokenizer(found, tokenizer, done)
    own = _files_of(Path(source), found, done.tokenizer)
    check = partial(_check_targets, own=own, done=done, force=force)
    if format in FILES:
        _write_file(found, done, group_size, progress, check)
        return done
    pieces = None if done.tokenizer is None else _padded_pieces(done.tokenizer, found)
    told = partial(_stage, progress, "writing")
    check(_of_a_model(target) if format == "hf" else [target])
    from ..model import Model

    source_read = found.load(partial(_stage, progress, "reading"))
    read = replace(found, load=lambda told: source_read)
    with Model(read, tokenizer=False, threads=1) as model:
        what = (target, model.config, model.weights, pieces, dtype, told)
        if format == "hf":
            done.files = write_folder(*what, special=done.special, defaults=found.defaults)
        else:
            from .gguf_writer import write_gguf

            done.notes += write_gguf(*what, special=done.special, defaults=found.defaults)
            done.files = [target]
    return done


def checked_dtype(format: str, dtype: str) -> str:
    """The precision that a format is to be written in; ``auto`` is its first.

    Raises:
        InvalidArgument: there is no such format, or it does not hold such weights.
    """
    if format not in DTYPES:
        raise InvalidArgument(f"format is {format!r}: expected one of {', '.join(DTYPES)}")
    if dtype == "auto":
        return DTYPES[format][0]
    if dtype not in DTYPES[format]:
        held = [d for d in DTYPES[format] if d != "auto"]
        raise InvalidArgument(
            f"dtype is {dtype!r}: {format} holds {' or '.join(held)}; take one of these"
        )
    return dtype


def _check_targets(
    files: Iterable[Path], own: Iterable[Path], done: Conversion, force: bool
) -> None:
    """Whether these may be written or removed; makes the folder that they go to.

    Raises:
        InvalidArgument: one of them is among the source's ``own``.
        FileError: one is there and ``force`` is not given; something else than a file or folder is
            there; no folder can be made.
    """
    target, folder = done.target, done.format == "hf"
    if target.exists() and not (target.is_dir() if folder else target.is_file()):
        kind = "a folder" if target.is_dir() else "a file" if target.is_file() else "a device"
        wanted = "a folder" if folder else "a file"
        raise FileError(f"{target}: is {kind}, and {wanted} is to be written: give another name")
    there = [path for path in files if path.exists()]
    kept = {_identity(path) for path in own}
    if taken := [path for path in there if _identity(path) in kept]:
        raise InvalidArgument(
            f"{taken[0]}: the model is read from it, which is never replaced: give another name"
        )
    if folder and target.is_dir() and any(target.iterdir()):
        there.append(target)
    if there and not force:
        raise FileError(f"{there[-1]}: exists; force=True replaces it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{target.parent}: {error.strerror}") from None


def _files_of(source: Path, found: Found, tokenizer: Tokenizer | None) -> list[Path]:
    """What a model is read from."""
    files = [source] if tokenizer is None else [source, tokenizer.path]
    if found.format != "Hugging Face":
        return files
    folder = source if source.is_dir() else source.parent
    parts = (p for p in folder.iterdir() if is_of_a_model(p.name) or p.suffix == ".safetensors")
    return [*files, *parts]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _stage(progress: Progress, stage: str, done: int, total: int) -> None:
    progress(done, total, stage)


def _of_a_model(folder: Path) -> list[Path]:
    """What is replaced or goes when a folder is written where one is."""
    return [p for p in folder.iterdir() if is_of_a_model(p.name)] if folder.is_dir() else []


def _take_tokenizer(found: Found, path: str | os.PathLike[str] | None, done: Conversion) -> None:
    """Opens the tokenizer that is to go along, or notes why none does."""
    done.special = found.special or LLAMA2C
    try:
        if path is not None:
            rounded_up = found.special is not None  # a file of others
            own = open_tokenizer(Path(path), special=done.special)
            done.tokenizer = fitting(own, found.config.vocab_size, rounded_up=rounded_up)
        else:
            done.tokenizer = found.tokenizer()
            if isinstance(done.tokenizer, JsonTokenizer):
                Pieces.of(done.tokenizer)  # whether it can be said in SentencePiece's words
    except (TokenizerError, MissingPackage) as error:
        if path is not None:
            raise
        done.tokenizer = None
        # A llama2.c file without a tokenizer beside it stays what it is.
        if done.format not in FILES or found.special or isinstance(error, MissingPackage):
            done.notes.append(f"without a tokenizer: {error}")
    if done.tokenizer is not None:
        done.special = getattr(done.tokenizer, "special", None) or done.special


def _padded_pieces(tokenizer: Tokenizer, found: Found) -> Pieces:
    """With a piece for each id of a vocabulary that was rounded up."""
    return Pieces.of(tokenizer).padded(found.config.vocab_size)


# ---- files of the core, with the tokenizer beside them ------------------------------------------


def _write_file(
    found: Found,
    done: Conversion,
    group_size: int,
    progress: Progress,
    check: Callable[[Iterable[Path]], None],
) -> None:
    done.notes += _beside_the_point(found, done)
    stem = done.target.name.removesuffix(".bin")
    places = {k: done.target.with_name(f"{stem}.tokenizer.{k}") for k in ("model", "bin")}
    beside = _beside(found, done)
    # A tokenizer of another model under this name would be taken for this one's.
    check([*(places.values() if beside else ()), done.target])
    source = found.load(partial(_stage, progress, "reading"))
    if done.format == "tz":
        _core.convert_to_tz(source, os.fspath(done.target), done.dtype, progress)
    else:
        told = partial(_stage, progress, "writing")
        if _core.convert(source, os.fspath(done.target), done.format, group_size, told):
            done.notes.append(
                "llama2.c's int8 program (runq) reads this file wrongly, since the rows of its "
                "matrices are no multiple of the group; tinyzh reads it correctly"
            )
    done.files = [done.target]
    for kind, path in places.items() if beside else ():
        if kind in beside:
            with replacing(path) as part:
                part.write_bytes(beside[kind])
            done.files.append(path)
        else:
            path.unlink(missing_ok=True)
    if done.tokenizer is None:
        with suppress(TokenizerError):
            left = find_tokenizer(done.target, found.config.vocab_size)
            done.notes.append(f"{left.path} was there and will be taken for its tokenizer")


def _beside(found: Found, done: Conversion) -> dict[str, bytes]:
    """The files in which the tokenizer lies beside a file: content by kind, ``model`` or ``bin``;
    none if there is none, or the right one is there already."""
    tokenizer, vocab_size = done.tokenizer, found.config.vocab_size
    if tokenizer is None:
        return {}
    with suppress(TokenizerError):
        if not difference(tokenizer, find_tokenizer(done.target, vocab_size)):
            return {}
    if isinstance(tokenizer, BinTokenizer) and tokenizer.vocab_size == vocab_size:
        return {"bin": tokenizer.path.read_bytes()}
    beside = {}
    if isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.vocab_size == vocab_size:
        beside["model"] = tokenizer.data
    for kind, content in (("model", Pieces.model), ("bin", Pieces.bin)):
        try:
            if kind not in beside:
                beside[kind] = content(_padded_pieces(tokenizer, found))
        except (TokenizerError, MissingPackage) as error:
            reader = "tinyzh" if kind == "model" else "llama2.c's run"
            done.notes.append(f"without the tokenizer.{kind} that {reader} would read: {error}")
    return beside


def _beside_the_point(found: Found, done: Conversion) -> list[str]:
    """What a file of the core cannot say of the model, and how to say it instead.

    Raises:
        InvalidArgument: texts would begin with another token than the model knows.
    """
    special, format, notes = done.special, done.format, []
    if special.bos != LLAMA2C.bos or not special.add_bos:
        begun = f"with token {special.bos}" if special.add_bos else "with no token before them"
        if done.tokenizer is not None:
            raise InvalidArgument(
                f"texts of this model begin {begun}, and {format} knows only {LLAMA2C.bos}, BOS: "
                "write it as hf or gguf, or open it as it is with the dtype that is wanted"
            )
        notes.append(f"{format} cannot say that texts begin {begun}: mind it in token ids")
    if set(special.ends) != set(LLAMA2C.ends):
        more = [i for i in special.ends if i not in LLAMA2C.ends]
        notes.append(
            f"{format} cannot say that texts end with {', '.join(map(str, special.ends))}: there "
            f"it is {' and '.join(map(str, LLAMA2C.ends))}"
            + (f"; pass stop_tokens={more}" if more else "")
        )
    ours = asdict(SamplingParams())
    if own := {name: value for name, value in found.defaults.items() if ours[name] != value}:
        said = ", ".join(f"{name}={value}" for name, value in own.items())
        notes.append(f"{format} has no place for the model's defaults: pass {said}")
    return notes
