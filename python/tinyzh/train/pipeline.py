"""The steps of the pipeline that start from folders, and all of them in a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from . import config as configurations
from .checkpoint import NAME, Checkpoint
from .corpus import CorpusOptions, build_corpus, read_report
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
    texts = _held_out(valid_texts)
    return _train(data, out, config, settings, tokenizer, texts, resume)


def _train(
    data: Path,
    out: Path,
    config: str | None,
    settings: Sequence[str],
    tokenizer: Path | None,
    texts: Sequence[str],
    resume: bool,
) -> Result:
    """The same, with the held-out stories themselves."""
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
    texts = texts or (saved.texts if saved else [])
    task = Task(run, out, train_data, valid_data, train_data.tokenizer(tokenizer), texts, saved)
    first = os.environ.get("RANK", "0") == "0"  # of the processes of torchrun
    with shown() if first else nullcontext(None) as progress:
        return train(task, progress)


def _held_out(names: Sequence[str | Path]) -> list[str]:
    texts = read_texts(names)
    if names and not texts:
        raise InvalidArgument(f"no stories in {', '.join(map(str, names))}")
    return texts


def train_builtin(
    out: Path,
    *,
    config: str | None = None,
    settings: Sequence[str] = (),
    real: Sequence[str | Path] = (),
    valid_texts: Sequence[str | Path] = (),
    stories: int | None = None,
    repeat: int | None = None,
    seed: int | None = None,
    resume: bool = False,
    report: Callable[[str], None] = print,
) -> Result:
    """Makes the model that comes with the package: corpus, tokenizer, tokens, model, export.

    What an earlier call has finished in ``out`` is kept with ``resume``.

    Args:
        config, settings: as for :func:`train_model`; a run begins with ``builtin``.
        real: files of real stories, to be mixed in ``repeat`` times each.
        valid_texts: files of held-out stories.
        stories: how many to draw from the templates; like ``repeat`` and ``seed`` None: as for the
            built-in model, or for the corpus that is there.

    Raises:
        TrainingError: there is something and it is not to be resumed, or the other way round; or
            its corpus was made of something else.
    """
    corpus, tokenizer, data = out / "corpus", out / "tokenizer", out / "data"
    there = out.exists() and any(out.iterdir())
    if there and not resume:
        raise TrainingError(
            f"{out}: is not empty: --resume goes on with what is there, or give another folder"
        )
    if resume and not there:
        raise TrainingError(
            f"{out}: nothing there to --resume: leave that out to begin, or give the folder of "
            "another with --out"
        )
    begun = (out / "run" / NAME).exists()
    if not begun:
        config = config or "builtin"
        configurations.load(config, settings)  # a mistake in them is named before the work begins
    texts = _held_out(valid_texts)

    asked = {"real": [*map(str, real)] or None, "stories": stories, "repeat": repeat, "seed": seed}
    asked = {name: value for name, value in asked.items() if value is not None}
    if (corpus / "report.json").exists():
        made = _made_of(corpus)
        _check_same(corpus, asked, made)
    else:
        made = {"real": [], "stories": STORIES, "repeat": REPEAT, "seed": 1, **asked}
        options = CorpusOptions(chinese=0.8, valid=0.0, repeat=made["repeat"], vary=VARIED)
        built = build_corpus(
            made["real"], corpus, builtin=made["stories"], seed=made["seed"], options=options
        )
        report(str(built))
    if not (tokenizer / "tokenizer.bin").exists():
        size = configurations.load(config or "builtin", settings).model.vocab_size
        trained = train_tokenizer(
            corpus, tokenizer, vocab_size=size, sample=50_000, seed=made["seed"]
        )
        report(str(trained))
    report(str(prepare(corpus, tokenizer / "tokenizer.model", data)))
    result = _train(data, out / "run", config, settings, None, texts, begun)
    if result.finished:
        for path in export(out / "run", out / "export" / "story.bin", "v2", corpus=corpus):
            report(f"wrote {path}")
    return result


def _made_of(corpus: Path) -> dict[str, Any]:
    """The arguments by which a corpus was made."""
    report = read_report(corpus)
    return {
        "real": report["inputs"],
        "stories": report["drawn"],
        "repeat": report["options"]["repeat"],
        "seed": report["seed"],
    }


def _check_same(corpus: Path, asked: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    for name, value in asked.items():
        if value != made[name]:
            new, old = (
                ", ".join(v) or "none" if isinstance(v, list) else v for v in (value, made[name])
            )
            raise TrainingError(
                f"--{name} is {new}, and {corpus} was made with {old}: leave --{name} out to go on "
                "with that, or give another folder with --out"
            )
