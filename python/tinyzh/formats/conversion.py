"""From any format to any other, in that format's own words."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _core
from ..atomic import replacing
from ..errors import InvalidArgument, MissingPackage, TokenizerError
from ..sampling import SamplingParams
from ..special import LLAMA2C
from ..tokenizer import (
    BinTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    find_tokenizer,
    open_tokenizer,
)
from .found import Found, open_path
from .pieces import Pieces
from .tokenizer_json import JsonTokenizer

if TYPE_CHECKING:
    pass

__all__ = ["DTYPES", "FILES", "Conversion", "convert", "format_of_name", "texts_of"]

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

Progress = Callable[[int, int, str], object]  # told done, total, and what is done to them


@dataclass
class Conversion:
    """What was written."""

    target: Path
    format: str
    dtype: str  #: of ``DTYPES[format]``
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  #: what one should know about it
    tokenizer: Tokenizer | None = None  #: the one that went along


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

    Raises:
        InvalidArgument: a format or dtype that is not there, or that cannot hold the model.
        MissingPackage: the format needs a package that is not installed.
        CheckpointError, FileError: the source cannot be read, the target not written.
    """
    if format not in DTYPES:
        raise InvalidArgument(f"format is {format!r}: expected one of {', '.join(DTYPES)}")
    if dtype != "auto" and dtype not in DTYPES[format]:
        raise InvalidArgument(
            f"dtype is {dtype!r}: {format} holds {' or '.join(DTYPES[format])}; take one of these"
        )
    found, target = open_path(source), Path(target)
    if dtype == "auto":
        dtype = DTYPES[format][0]
    done = Conversion(target, format, dtype, [target])
    belongs = done.tokenizer = _tokenizer(found, tokenizer, done)
    if format in FILES:
        done.notes += _beside_the_point(found, format)
        _write_file(found, target, format, dtype, group_size, progress, done)
        if belongs is not None:
            _lay_beside(belongs, target, found.config.vocab_size, done)
        return done
    from ..model import Model

    pieces = None if belongs is None else Pieces.of(belongs)
    special = found.special or LLAMA2C
    if isinstance(belongs, JsonTokenizer):
        special = belongs.special or special  # it has rules of its own for the beginning
    told = partial(_written, progress)
    with Model(found, tokenizer=False, threads=1) as model:
        if format == "hf":
            from .huggingface_writer import write_folder

            done.files = write_folder(
                target, model.config, model.weights, pieces, dtype, told,
                special=special, defaults=found.defaults,
            )  # fmt: skip
        else:
            from .gguf import write_gguf

            done.notes += write_gguf(
                target, model.config, model.weights, pieces, dtype, told,
                special=special, defaults=found.defaults,
            )  # fmt: skip
    return done


def _beside_the_point(found: Found, format: str) -> list[str]:
    """What a file of ``format`` cannot say of the model, and how to say it instead.

    Raises:
        InvalidArgument: texts would begin with another token than the model knows.
    """
    special, notes = found.special or LLAMA2C, []
    if special.bos != LLAMA2C.bos or not special.add_bos:
        begun = f"with token {special.bos}" if special.add_bos else "with no token before them"
        raise InvalidArgument(
            f"texts of this model begin {begun}, and {format} knows only {LLAMA2C.bos}, BOS: write "
            "it as hf or gguf, or open it as it is with the dtype that is wanted"
        )
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


def _written(progress: Progress, done: int, total: int) -> None:
    progress(done, total, "written")


def _tokenizer(
    found: Found, path: str | os.PathLike[str] | None, done: Conversion
) -> Tokenizer | None:
    if path is not None:
        return open_tokenizer(Path(path), found.config.vocab_size)
    try:
        return found.tokenizer()
    except (TokenizerError, MissingPackage) as error:
        if done.format not in FILES:
            done.notes.append(f"without a tokenizer: {error}")
        return None


def _write_file(
    found: Found,
    target: Path,
    format: str,
    dtype: str,
    group_size: int,
    progress: Progress,
    done: Conversion,
) -> None:
    if format == "tz":
        _core.convert_to_tz(found.load(), os.fspath(target), dtype, progress)
        return
    told = partial(_written, progress)
    if _core.convert(found.load(), os.fspath(target), format, group_size, told):
        done.notes.append(
            "llama2.c's int8 program (runq) reads this file wrongly, since the rows of its "
            "matrices are no multiple of the group; tinyzh reads it correctly"
        )


def _lay_beside(tokenizer: Tokenizer, target: Path, vocab_size: int, done: Conversion) -> None:
    """The tokenizer, under the target's name, unless the right one is there already."""
    try:
        if texts_of(find_tokenizer(target, vocab_size)) == texts_of(tokenizer):
            return
    except TokenizerError:
        pass
    stem = target.name.removesuffix(".bin")
    as_bin, as_model = (target.with_name(f"{stem}.tokenizer.{kind}") for kind in ("bin", "model"))
    if isinstance(tokenizer, BinTokenizer):
        with replacing(as_bin) as part:
            shutil.copyfile(tokenizer.path, part)
        done.files.append(as_bin)
        return
    if isinstance(tokenizer, SentencePieceTokenizer):
        with replacing(as_model) as part:
            part.write_bytes(tokenizer.data)
        done.files.append(as_model)
    try:
        content = Pieces.of(tokenizer).bin()
    except (TokenizerError, MissingPackage) as error:
        done.notes.append(f"without {as_bin.name}, which llama2.c's run would read: {error}")
        return
    with replacing(as_bin) as part:
        part.write_bytes(content)
    done.files.append(as_bin)


def texts_of(tokenizer: Tokenizer) -> list[bytes]:
    """The pieces that are text, by id; what an unknown one is shown as differs between files."""
    pieces = tokenizer.vocabulary.pieces()
    return [data if kind in ("normal", "byte") else b"" for data, kind in pieces]
