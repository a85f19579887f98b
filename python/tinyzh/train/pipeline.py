"""The steps of the pipeline that start from folders, and all of them in a row."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import FileMissing, InvalidArgument
from . import config as configurations
from .checkpoint import NAME, Checkpoint
from .config import Run
from .corpus import CorpusOptions, build_corpus, read_report
from .dataset import TokenDataset
from .errors import TrainingError
from .export import export
from .loop import Result, Task, train
from .preflight import check_telling
from .progress import shown
from .reading import read_texts
from .shards import prepare
from .tokenizer import train_tokenizer
from .tokenizer_files import find_trained

__all__ = ["train_builtin", "train_model"]

STORIES = 130_000  # drawn for the built-in model
REPEAT = 24  # times that the built-in model reads a real story where it reads a drawn one once
VARIED = 0.75  # share of these times in which its heroes have other names
CONSISTENT = "consistent"  # the configuration, and the folder, of the built-in model's second run


def train_model(
    data: Path,
    out: Path,
    *,
    config: str | None = None,
    settings: Sequence[str] = (),
    tokenizer: Path | None = None,
    valid_texts: Sequence[str | Path] = (),
    resume: bool = False,
    start: Path | None = None,
) -> Result:
    """Trains on prepared data.

    Args:
        data: a folder made by :func:`tinyzh.train.shards.prepare`.
        out: the run's folder.
        config: a name or a file; None: the checkpoint's, or ``laptop`` where a run begins with
            random weights.
        settings: changes of it, ``key=value``.
        tokenizer: of the tokens; None: the one that is among them.
        valid_texts: files of held-out stories; none: those that the run has had.
        resume: go on from the checkpoint in ``out``; else there must be none.
        start: the folder of a run, or a checkpoint, whose (averaged) weights a new run begins
            with; shape, configuration and held-out texts are its too, unless others are given.
    """
    texts = _held_out(valid_texts)
    return _train(data, out, config, settings, tokenizer, texts, resume, start)


def _train(
    data: Path,
    out: Path,
    config: str | None,
    settings: Sequence[str],
    tokenizer: Path | None,
    texts: Sequence[str],
    resume: bool,
    start: Path | None = None,
) -> Result:
    """The same, with the held-out stories themselves."""
    saved = Checkpoint.begun(out, resume)
    if saved is not None and start is not None:
        raise InvalidArgument("--from begins a run and --resume goes on with one: leave one out")
    first = Checkpoint.load(start) if start is not None else None
    origin = saved or first
    train_data, valid_data = TokenDataset(data, "train"), TokenDataset(data, "valid")
    if origin is not None and config is None:
        run = origin.run.changed(settings)
    else:
        shape = origin.run.model if origin is not None else None
        run = configurations.load(config or "laptop", settings, train_data.vocab_size, shape)
    if train_data.vocab_size != run.model.vocab_size:
        raise InvalidArgument(
            f"vocab_size is {run.model.vocab_size}, but {data} was made with a tokenizer of "
            f"{train_data.vocab_size} pieces: leave out --set vocab_size, or take the tokens that "
            "the run was begun with"
        )
    if first is not None:
        assert start is not None
        _check_start(run, first, start, train_data)
    texts = texts or (origin.texts if origin else [])
    pieces = train_data.tokenizer(tokenizer)
    task = Task(run, out, train_data, valid_data, pieces, texts, saved, first)
    tells = os.environ.get("RANK", "0") == "0"  # the first of the processes of torchrun
    with shown() if tells else nullcontext(None) as progress:
        return train(task, progress)


def _check_start(run: Run, first: Checkpoint, path: Path, data: TokenDataset) -> None:
    """Looks whether a run can begin with these weights, and with these tokens."""
    old, new = asdict(first.run.model), asdict(run.model)
    if other := [f"{name} {new[name]} (not {old[name]})" for name in old if old[name] != new[name]]:
        raise InvalidArgument(
            f"--from {path}: has weights of another shape than {', '.join(other)}: leave that out "
            "of --set and --config"
        )
    try:
        tokenizer = find_trained(path if path.is_dir() else path.parent)
    except FileMissing:  # a checkpoint alone: its tokens are taken for the same
        return
    try:
        data.tokenizer(tokenizer)
    except InvalidArgument:
        raise InvalidArgument(
            f"--from {path}: was trained with another tokenizer than the one that {data.folder} "
            f"was made with: `tinyzh train prepare` the text with --tokenizer {tokenizer.parent}"
        ) from None


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
    """Makes the model that comes with the package: corpus, tokenizer, tokens, two runs, export.

    The second run begins where the first ends, and unlearns the mistakes in stories that the model
    tells. What an earlier call has finished in ``out`` is kept with ``resume``.

    Args:
        config, settings: as for :func:`train_model`; a run begins with ``builtin``. Keys that
            begin with ``consistent.`` are of the second run; give them again with ``resume`` until
            it has begun. What says how the machine is used (device, threads, …) is of both.
        real: files of real stories, to be mixed in ``repeat`` times each.
        valid_texts: files of held-out stories.
        stories: how many to draw from the templates; like ``repeat`` and ``seed`` None: as for the
            built-in model, or for the corpus that is there.

    Raises:
        TrainingError: there is something and it is not to be resumed, or the other way round; or
            its corpus was made of something else.
    """
    corpus, tokenizer, data = out / "corpus", out / "tokenizer", out / "data"
    own, second = _split(settings)
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
    if begun:
        first = Checkpoint.load(out / "run").run
    else:
        config = config or "builtin"
        first = configurations.load(config, own)
    _consistent(first, own, second)  # mistakes are named before the work begins
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
        size = first.model.vocab_size
        trained = train_tokenizer(
            corpus, tokenizer, vocab_size=size, sample=50_000, seed=made["seed"]
        )
        report(str(trained))
    report(str(prepare(corpus, tokenizer / "tokenizer.model", data)))
    result = _train(data, out / "run", config, own, None, texts, begun)
    if result.finished:
        result = _train_second(out, own, second, texts)
    if result.finished:
        for path in export(out / CONSISTENT, out / "export" / "story.bin", "v2", corpus=corpus):
            report(f"wrote {path}")
    return result


def _train_second(
    out: Path, own: Sequence[str], second: Sequence[str], texts: Sequence[str]
) -> Result:
    """The run that makes the model consistent, begun with what the first one has become."""
    data, start, last = out / "data", out / "run", out / CONSISTENT
    first = Checkpoint.load(start)
    if (last / NAME).exists():
        if Checkpoint.load(last).before == first.summary():
            return _train(data, last, None, second, None, texts, resume=True)
        (last / NAME).unlink()  # it began with weights that have been trained further
    settings = [*_of_the_machine(own), *second]
    return _train(data, last, CONSISTENT, settings, None, texts, resume=False, start=start)


def _consistent(first: Run, own: Sequence[str], second: Sequence[str]) -> None:
    """Looks whether the second run can follow the first."""
    settings = [*_of_the_machine(own), *second]
    run = configurations.load(CONSISTENT, settings, shape=first.model)
    if run.model != first.model:
        raise InvalidArgument(
            f"{', '.join(f'{CONSISTENT}.{s}' for s in second)}: the second run has the shape of "
            "the first: set keys of [model] without the prefix"
        )
    run.batch_sizes()
    if run.training.unlikelihood:
        check_telling(run, 1)


def _of_the_machine(settings: Sequence[str]) -> list[str]:
    """Those that say how the machine is used, and not what is learnt."""
    names = ("device", "compile", "precision", "threads", "save_minutes")
    return [s for s in settings if s.partition("=")[0].strip().rpartition(".")[2] in names]


def _split(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the first and those of the second run."""
    prefix = f"{CONSISTENT}."
    second = [s.removeprefix(prefix) for s in settings if s.startswith(prefix)]
    return [s for s in settings if not s.startswith(prefix)], second


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
