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
REPERTOIRE = 24_000  # of those that it is to know by heart, or as many as STORIES if they are fewer
OPENING = 0.1  # share of the other stories that keep the opening of the repertoire
REPEAT = 24  # times that the built-in model reads a real story where it reads a drawn one once
VARIED = 0.75  # share of these times in which its heroes have other names
FOLLOWING: dict[str, tuple[str, ...]] = {
    "repertoire": (),
    "consistent": ("dropout=0", "keep=2", "lr=6e-5", "min_lr=1e-5"),
}
"""The runs after the first: the names of their configurations and folders, and what is changed."""


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
    keep: Path | None = None,
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
        keep: a folder like ``data``, of text on which the model shall stay what it was before the
            first run with this; given again with ``resume``.
    """
    texts = _held_out(valid_texts)
    return _train(data, out, config, settings, tokenizer, texts, resume, start, keep)


def _train(
    data: Path,
    out: Path,
    config: str | None,
    settings: Sequence[str],
    tokenizer: Path | None,
    texts: Sequence[str],
    resume: bool,
    start: Path | None = None,
    keep: Path | None = None,
) -> Result:
    """The same, with the held-out stories themselves."""
    saved = Checkpoint.begun(out, resume)
    if saved is not None and start is not None:
        raise InvalidArgument("--from begins a run and --resume goes on with one: leave one out")
    first = Checkpoint.load(start) if start is not None else None
    origin = saved or first
    _check_keep(keep, saved, first)
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
    kept_data = None
    if keep is not None:
        kept_data = TokenDataset(keep, "train")
        _check_tokens(kept_data, pieces, f"--keep {keep}: was prepared", data)
    task = Task(run, out, train_data, valid_data, pieces, texts, saved, first, kept_data)
    tells = os.environ.get("RANK", "0") == "0"  # the first of the processes of torchrun
    with shown() if tells else nullcontext(None) as progress:
        return train(task, progress)


def _check_keep(keep: Path | None, saved: Checkpoint | None, first: Checkpoint | None) -> None:
    """Looks whether there is something to stay: the beginning of this run."""
    begun = saved is not None and saved.kept is not None
    if saved is not None and begun != (keep is not None):
        how = "with --keep: give it" if begun else "without --keep: leave it out"
        raise InvalidArgument(f"--resume: the run was begun {how} this time too")
    if keep is not None and saved is None and first is None:
        raise InvalidArgument(
            f"--keep {keep}: is text on which a model stays what it is, and this one is new: name "
            "the run that it begins with, --from RUN, or leave --keep out"
        )


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
    _check_tokens(data, tokenizer, f"--from {path}: was trained", data.folder)


def _check_tokens(data: TokenDataset, tokenizer: Path, what: str, made: Path) -> None:
    """Looks whether tokens are of that tokenizer."""
    try:
        data.tokenizer(tokenizer)
    except InvalidArgument:
        raise InvalidArgument(
            f"{what} with another tokenizer than the one that {made} was made with: "
            f"`tinyzh train prepare` the text with --tokenizer {tokenizer.parent}"
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
    """Makes the model that comes with the package: corpora, tokenizer, tokens, runs, export.

    Each of three runs begins where the one before ends: the second learns the repertoire by heart
    and stays what it was on the corpus of the first, the third also unlearns the mistakes in
    stories that the model tells. What an earlier call has finished in ``out`` is kept with
    ``resume``.

    Args:
        config, settings: as for :func:`train_model`; a run begins with ``builtin``. Keys that
            begin with ``repertoire.`` or ``consistent.`` are of that run; give them again with
            ``resume`` until it has begun. What says how the machine is used (device, threads, …)
            is of all.
        real: files of real stories, to be mixed in ``repeat`` times each.
        valid_texts: files of held-out stories.
        stories: how many to draw from the templates; like ``repeat`` and ``seed`` None: as for the
            built-in model, or for the corpus that is there.

    Raises:
        TrainingError: there is something and it is not to be resumed, or the other way round; or
            its corpus was made of something else.
    """
    corpus, tokenizer, data = out / "corpus", out / "tokenizer", out / "data"
    own, following = _split(settings)
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
    for name in FOLLOWING:  # mistakes are named before the work begins
        _check_following(first, name, own, following[name])
    texts = _held_out(valid_texts)

    asked = {"real": [*map(str, real)] or None, "stories": stories, "repeat": repeat, "seed": seed}
    asked = {name: value for name, value in asked.items() if value is not None}
    if (corpus / "report.json").exists():
        made = _made_of(corpus)
        _check_same(corpus, asked, made)
        if made["opening"] != OPENING:
            raise TrainingError(
                f"{corpus}: an older one, all of whose stories keep their opening: begin in "
                "another folder with --out"
            )
    else:
        made = {"real": [], "stories": STORIES, "repeat": REPEAT, "seed": 1, **asked}
        options = CorpusOptions(
            chinese=0.8, valid=0.0, opening=OPENING, repeat=made["repeat"], vary=VARIED
        )
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
    known = out / "repertoire_corpus"
    if not (known / "report.json").exists():
        options = CorpusOptions(valid=0.0, templates="repertoire")
        count = min(REPERTOIRE, made["stories"])
        report(str(build_corpus([], known, builtin=count, seed=made["seed"], options=options)))
    for text, tokens in ((corpus, data), (known, out / "repertoire_data")):
        report(str(prepare(text, tokenizer / "tokenizer.model", tokens)))
    last = out / "run"
    result = _train(data, last, config, own, None, texts, begun)
    for name in FOLLOWING:
        if result.finished:
            result = _follow(last, out / name, [*_of_the_machine(own), *following[name]], texts)
            last = out / name
    if result.finished:
        model, corpora = out / "export" / "story.bin", (corpus, known)
        for path in export(last, model, "v2", corpora=corpora):
            report(f"wrote {path}")
    return result


def _follow(start: Path, run: Path, settings: Sequence[str], texts: Sequence[str]) -> Result:
    """A run on the repertoire, begun with what the one before it has become, or gone on with."""
    data, keep, config = run.parent / "repertoire_data", run.parent / "data", run.name
    if (run / NAME).exists():
        if Checkpoint.load(run).before == Checkpoint.load(start).summary():
            return _train(data, run, None, settings, None, texts, True, keep=keep)
        (run / NAME).unlink()  # it began with weights that have been trained further
    settings = [*FOLLOWING[config], *settings]
    return _train(data, run, config, settings, None, texts, False, start, keep)


def _check_following(first: Run, name: str, own: Sequence[str], settings: Sequence[str]) -> None:
    """Looks whether a run can follow the first."""
    changes = [*FOLLOWING[name], *_of_the_machine(own), *settings]
    run = configurations.load(name, changes, shape=first.model)
    if run.model != first.model:
        raise InvalidArgument(
            f"{', '.join(f'{name}.{s}' for s in settings)}: a later run has the shape of the "
            "first: set keys of [model] without the prefix"
        )
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    run.batch_sizes(processes)
    if run.training.unlikelihood:
        check_telling(run, processes)


def _of_the_machine(settings: Sequence[str]) -> list[str]:
    """Those that say how the machine is used, and not what is learnt."""
    names = ("device", "compile", "precision", "threads", "save_minutes")
    return [s for s in settings if s.partition("=")[0].strip().rpartition(".")[2] in names]


def _split(settings: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Those of the first run, and those of each that follows."""
    following: dict[str, list[str]] = {name: [] for name in FOLLOWING}
    own = []
    for setting in settings:
        name, dot, key = setting.partition(".")
        if dot and name in following:
            following[name].append(key)
        else:
            own.append(setting)
    return own, following


def _made_of(corpus: Path) -> dict[str, Any]:
    """The arguments by which a corpus was made."""
    report = read_report(corpus)
    return {
        "real": report["inputs"],
        "stories": report["drawn"],
        "repeat": report["options"]["repeat"],
        "seed": report["seed"],
        "opening": report["options"].get("opening", 1.0),
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
