"""From a checkpoint of training to files that others read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, get_args

from ..atomic import replacing
from ..errors import FileMissing, InvalidArgument
from ..formats.huggingface_writer import write_folder
from ..formats.pieces import Pieces
from ..model import Model
from .binary import stacked, write_bin
from .checkpoint import Checkpoint
from .model import Llama
from .model_card import model_card

__all__ = ["Format", "export", "hugging_face_folder"]

Format = Literal["v0", "v1", "v2", "fp16", "hf"]


def export(
    source: Path,
    target: Path,
    format: Format,
    *,
    group_size: int = 0,
    tokenizer: Path | None = None,
    corpus: Path | None = None,
    licence: str = "MIT",
) -> list[Path]:
    """Writes a model, its tokenizer and its card; returns the files.

    Args:
        source: the folder of a run, or a checkpoint.
        target: the file to write; for ``hf`` a folder.
        format: v0, v1 (fp32) and v2 (int8) are llama2.c's; ``fp16`` is a NumPy .npz of half
            precision; ``hf`` is a folder that transformers opens.
        group_size: of v2: weights that share a scale; 0: 64, or what divides dim.
        tokenizer: a folder with ``tokenizer.model``; None: beside the checkpoint.
        corpus: the folder of the corpus, which the card then describes.
        licence: of the model, for the card.
    """
    if format not in get_args(Format):
        raise InvalidArgument(
            f"format is {format!r}: expected one of {', '.join(get_args(Format))}"
        )
    saved = Checkpoint.load(source)
    run_folder = source if source.is_dir() else source.parent
    model = saved.model()
    folder = target if format == "hf" else target.parent
    folder.mkdir(parents=True, exist_ok=True)
    written = [target]
    pieces = tokenizer or run_folder
    if format == "hf":
        written = hugging_face_folder(model, pieces / "tokenizer.model", target)
    else:
        if format == "fp16":
            _write_fp16(model, target)
        else:
            write_bin(model, target, format, group_size)
        for name in ("tokenizer.model", "tokenizer.bin"):
            copy = folder / name
            if (pieces / name).exists() and pieces.resolve() != folder.resolve():
                shutil.copyfile(pieces / name, copy)
                written.append(copy)
    card = folder / "README.md" if format == "hf" else target.with_suffix(".md")
    with replacing(card) as part:
        text = model_card(saved, target.name, format, run_folder / "log.csv", corpus, licence)
        part.write_text(text, encoding="utf-8")
    return [*written, card]


def hugging_face_folder(model: Llama, tokenizer: Path, folder: Path) -> list[Path]:
    """Writes weights, configuration and tokenizer; returns the files."""
    if not tokenizer.exists():
        raise FileMissing(
            f"{tokenizer}: no such file; a Hugging Face folder needs the SentencePiece model: "
            "name its folder with --tokenizer"
        )
    pieces = Pieces.of_model(tokenizer.read_bytes())
    with Model.from_arrays(model.config, stacked(model)) as engine:
        return write_folder(folder, engine.config, engine.weights, pieces)


def _write_fp16(model: Llama, path: Path) -> None:
    import numpy as np

    arrays = {name: value.astype(np.float16) for name, value in stacked(model).items()}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
