"""The steps of the pipeline that start from folders, and all of them in a row."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from ..errors import InvalidArgument
from . import config
from .checkpoint import NAME, Checkpoint
from .config import Run
from .corpus import CorpusOptions, build_corpus
from .dataset import TokenDataset
from .errors import TrainingError
from .export import export
from .loop import Result, train
from .progress import shown
from .reading import read_texts
from .shards import prepare
from .tokenizer import find_trained, train_tokenizer

__all__ = ["train_builtin", "train_model"]

STORIES = 130_000  # drawn for the built-in model
REPEAT = 24  # times that the built-in model reads a real story where it reads a drawn one once
VARIED = 0.75  # share of these times in which its heroes have other names


def train_model(
    run: Run | None,
    data: Path,
    tokenizer: Path,
    out: Path,
    *,
    resume: bool = False,
    valid_texts: Sequence[str | Path] = (),
) -> Result:
    """Trains on prepared data; the tokenizer is copied into ``out``, so that it is complete.

    Args:
        run: the configuration; None: that of the checkpoint in ``out``.
        data: a folder made by :func:`tinyzh.train.shards.prepare`.
        valid_texts: files of held-out stories.
    """
    start = 0.0
    if resume and (out / NAME).exists():
        saved = Checkpoint.load(out)
        run = run or saved.run
        budget = run.training.steps or 60 * run.training.minutes
        start = min(1.0, (saved.step if run.training.steps else saved.trained) / budget)
    if run is None:
        run = config.load("laptop")
    train_data, valid_data = TokenDataset(data, "train"), TokenDataset(data, "valid")
    if train_data.vocab_size != run.model.vocab_size:
        raise InvalidArgument(
            f"vocab_size is {run.model.vocab_size}, but {data} was made with a tokenizer of "
            f"{train_data.vocab_size} pieces: set vocab_size={train_data.vocab_size}"
        )
    texts = read_texts(valid_texts) if valid_texts else []
    tokenizer = find_trained(tokenizer)
    if first := os.environ.get("RANK", "0") == "0":  # of the processes of torchrun
        tokenizer = _take_along(tokenizer, out)
    with shown(start) if first else nullcontext(_silence) as progress:
        return train(
            run,
            out,
            train_data,
            valid_data,
            tokenizer,
            resume=resume,
            texts=texts,
            progress=progress,
        )


def _silence(done: float, text: str) -> None:
    """What the other processes have to say."""


def _take_along(tokenizer: Path, out: Path) -> Path:
    """Copies a tokenizer, and its other form beside it, to where the model will be."""
    out.mkdir(parents=True, exist_ok=True)
    copy = out / f"tokenizer{tokenizer.suffix}"
    for suffix in (".model", ".bin"):
        source, target = tokenizer.with_suffix(suffix), out / f"tokenizer{suffix}"
        if source.exists() and not (target.exists() and target.samefile(source)):
            shutil.copyfile(source, target)
    return copy


def train_builtin(
    out: Path,
    run: Run,
    *,
    real: Sequence[str | Path] = (),
    valid_texts: Sequence[str | Path] = (),
    stories: int = STORIES,
    repeat: int = REPEAT,
    seed: int = 1,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Result:
    """Makes the model that comes with the package: corpus, tokenizer, tokens, model, export.

    What an earlier call has finished in ``out`` is kept with ``resume``.

    Args:
        real: files of real stories, to be mixed in ``repeat`` times each.
        valid_texts: files of held-out stories.
        stories: how many to draw from the templates.
    """
    corpus, tokenizer, data = out / "corpus", out / "tokenizer", out / "data"
    if out.exists() and any(out.iterdir()) and not resume:
        raise TrainingError(
            f"{out}: is not empty: --resume goes on with what is there, or give another folder"
        )
    if not (corpus / "report.json").exists():
        options = CorpusOptions(chinese=0.8, valid=0.0, repeat=repeat, vary=VARIED)
        report(str(build_corpus(real, corpus, builtin=stories, seed=seed, options=options)))
    if not (tokenizer / "tokenizer.bin").exists():
        size = run.model.vocab_size
        report(str(train_tokenizer(corpus, tokenizer, vocab_size=size, sample=50_000, seed=seed)))
    report(str(prepare(corpus, tokenizer / "tokenizer.model", data)))
    result = train_model(run, data, tokenizer, out / "run", resume=resume, valid_texts=valid_texts)
    if result.finished:
        for path in export(out / "run", out / "export" / "story.bin", "v2", corpus=corpus):
            report(f"wrote {path}")
    return result
