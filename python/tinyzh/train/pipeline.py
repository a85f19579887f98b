"""The steps of the pipeline that start from folders, and all of them in a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from ..errors import InvalidArgument
from . import config as configurations
from .checkpoint import NAME, Checkpoint
from .corpus import CorpusOptions, build_corpus
from .dataset import TokenDataset
from .errors import TrainingError
from .export import export
from .loop import Result, Task, train
from .progress import shown
from .reading import read_texts
from .shards import prepare
from .tokenizer import train_tokenizer

__all__ = ["train_builtin", "train_model"]

STORIES = 130_000  # drawn for the built-in model
REPEAT = 24  # times that the built-in model reads a real story where it reads a drawn one once
VARIED = 0.75  # share of these times in which its heroes have other names


def train_model(
    data: Path,
    out: Path,
    *,
    config: str | None = None,
    settings: Sequence[str] = (),
    tokenizer: Path | None = None,
    valid_texts: Sequence[str | Path] = (),
    resume: bool = False,
) -> Result:
    """Trains on prepared data.

    Args:
        data: a folder made by :func:`tinyzh.train.shards.prepare`.
        out: the run's folder.
        config: a name or a file; None: the checkpoint's, or ``laptop`` where a run begins.
        settings: changes of it, ``key=value``.
        tokenizer: of the tokens; None: the one that is among them.
        valid_texts: files of held-out stories; none: those that the run has had.
        resume: go on from the checkpoint in ``out``; else there must be none.
    """
    saved = Checkpoint.begun(out, resume)
    train_data, valid_data = TokenDataset(data, "train"), TokenDataset(data, "valid")
    if saved is not None and config is None:
        run = saved.run.changed(settings)
    else:
        run = configurations.load(config or "laptop", settings, train_data.vocab_size)
    if train_data.vocab_size != run.model.vocab_size:
        raise InvalidArgument(
            f"vocab_size is {run.model.vocab_size}, but {data} was made with a tokenizer of "
            f"{train_data.vocab_size} pieces: leave out --set vocab_size, or take the tokens that "
            "the run was begun with"
        )
    texts = read_texts(valid_texts) if valid_texts else saved.texts if saved else []
    if valid_texts and not texts:
        raise InvalidArgument(f"no stories in {', '.join(map(str, valid_texts))}")
    task = Task(run, out, train_data, valid_data, train_data.tokenizer(tokenizer), texts, saved)
    first = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun
    with shown() if first else nullcontext(None) as progress:
        return train(task, progress)


def train_builtin(
    out: Path,
    *,
    config: str | None = None,
    settings: Sequence[str] = (),
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
        config, settings: as for :func:`train_model`; a run begins with ``builtin``.
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
        size = configurations.load(config or "builtin", settings).model.vocab_size
        report(str(train_tokenizer(corpus, tokenizer, vocab_size=size, sample=50_000, seed=seed)))
    report(str(prepare(corpus, tokenizer / "tokenizer.model", data)))
    begun = (out / "run" / NAME).exists()
    result = train_model(
        data,
        out / "run",
        config=config or (None if begun else "builtin"),
        settings=settings,
        valid_texts=valid_texts,
        resume=begun,
    )
    if result.finished:
        for path in export(out / "run", out / "export" / "story.bin", "v2", corpus=corpus):
            report(f"wrote {path}")
    return result
