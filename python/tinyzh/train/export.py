"""From a checkpoint of training to files that others read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ..atomic import replacing
from ..errors import InvalidArgument
from ..formats.huggingface_writer import write_folder
from ..formats.pieces import Pieces
from ..model import Model
from ..tokenizer import open_tokenizer
from .binary import stacked, write_bin
from .checkpoint import NAME, Checkpoint
from .corpus import read_report
from .log import TABLE
from .model import Llama
from .model_card import model_card
from .tokenizer_files import copy_trained, find_trained, forms_of

__all__ = ["Format", "export", "hugging_face_folder"]

Format = Literal["v0", "v1", "v2", "fp16", "hf"]


def export(
    source: Path,
    target: Path,
    format: Format,
    *,
    group_size: int = 0,
    tokenizer: Path | None = None,
    corpora: Sequence[Path] = (),
    licence: str = "MIT",
) -> list[Path]:
    """Writes a model, with its tokenizer and its card; returns the files.

    Args:
        source: the folder of a run, or a checkpoint.
        target: the file to write; for ``hf`` a folder.
        format: v0, v1 (fp32) and v2 (int8) are llama2.c's; ``hf`` is a folder that transformers
            opens; ``fp16`` is the weights alone, in half precision, as a NumPy .npz.
        group_size: of v2: weights that share a scale; 0: 64, or what divides dim.
        tokenizer: a tokenizer.model or .bin, or a folder of them; None: beside the checkpoint.
        corpora: folders of what the model has read, which the card then describes.
        licence: of the model, for the card.

    Raises:
        FileMissing: no such run, tokenizer or corpus.
        InvalidArgument: an unknown format; a target that is another file's place; a tokenizer or
            a corpus for ``fp16``.
        TokenizerError: the tokenizer of another model.
    """
    if format not in get_args(Format):
        raise InvalidArgument(
            f"format is {format!r}: expected one of {', '.join(get_args(Format))}"
        )
    saved = Checkpoint.load(source)
    run = source if source.is_dir() else source.parent
    _check_replaced(target, source / NAME if source.is_dir() else source)
    if format == "fp16":
        for name, value in (("--tokenizer", tokenizer), ("--corpus", corpora)):
            if value:
                raise InvalidArgument(f"fp16 is the weights alone: leave {name} out")
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_fp16(saved.model(), target)
        return [target]
    pieces = find_trained(tokenizer or run)
    open_tokenizer(pieces, saved.run.model.vocab_size)
    _check_replaced(target, *forms_of(pieces))
    if format != "hf" and target.name in ("tokenizer.bin", "tokenizer.model"):
        raise InvalidArgument(f"{target}: where the model's tokenizer goes; give another name")
    reports = [read_report(corpus) for corpus in corpora]
    card = target / "README.md" if format == "hf" else target.with_suffix(".md")
    if card == target:
        raise InvalidArgument(f"{target}: where the model's card goes; end the name in .bin")
    if format == "hf":
        written = hugging_face_folder(saved.model(), pieces, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bin(saved.model(), target, format, group_size)
        written = [target, *copy_trained(pieces, target.parent, _tokenizer_name(target, pieces))]
    with replacing(card) as part:
        text = model_card(saved, target.name, format, run / TABLE, reports, licence)
        part.write_text(text, encoding="utf-8")
    return [*written, card]


def _check_replaced(target: Path, *needed: Path) -> None:
    """Refuses a target that would replace what it is made of."""
    if target.exists() and any(map(target.samefile, needed)):
        raise InvalidArgument(f"{target}: what the export is made of; give another name with --out")


def _tokenizer_name(model: Path, pieces: Path) -> str:
    """Under which a tokenizer goes beside a model: with the model's, if there is another one."""
    own = f"{model.name.removesuffix('.bin')}.tokenizer"
    if any(model.with_name(f"{own}{suffix}").exists() for suffix in (".model", ".bin")):
        return own  # it is the first that is looked for, so it must be the right one
    forms = {form.suffix: form.read_bytes() for form in forms_of(pieces)}
    there = [path for path in model.parent.glob("tokenizer.*") if path.suffix in (".model", ".bin")]
    return "tokenizer" if all(forms.get(p.suffix) == p.read_bytes() for p in there) else own


def hugging_face_folder(model: Llama, tokenizer: Path, folder: Path) -> list[Path]:
    """Writes weights, configuration and tokenizer; returns the files."""
    pieces = Pieces.of(open_tokenizer(tokenizer))
    with Model.from_arrays(model.config, stacked(model)) as engine:
        return write_folder(folder, engine.config, engine.weights, pieces)


def _write_fp16(model: Llama, path: Path) -> None:
    arrays: dict[str, Any] = {k: v.astype(np.float16) for k, v in stacked(model).items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)
