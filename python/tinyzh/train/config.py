"""What a training run is: the model's shape and how it is trained, read from a TOML file.

A file has two tables, ``[model]`` (:class:`tinyzh.config.Config`) and ``[training]``
(:class:`Training`).  The files in ``configs/`` have names: ``93m``, ``builtin``, ``laptop``, and
``repertoire`` and ``consistent``, which have no shape: they are for runs that begin with the
weights of another.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..config import Config
from ..errors import FileError, FileMissing, InvalidArgument

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Run", "Training", "load", "names"]

_CONFIGS = Path(__file__).parent / "configs"
_FIXED = ("norm_eps", "rope_theta")  # llama2.c's files have no place for them


@dataclass(frozen=True)
class Training:
    """How a model is trained."""

    steps: int = 0  #: optimiser steps; 0: the budget is ``minutes``
    minutes: float = 0.0  #: of training, pauses and evaluations not counted; 0: it is ``steps``

    batch: int = 16  #: sequences in a step, over all devices
    length: int = 256  #: tokens in a sequence
    long_every: int = 0  #: every so many steps the sequences are ``seq_len`` long, and fewer
    accumulate: int = 1  #: parts in which a device computes its share of a step

    optimizer: Literal["adamw", "muon"] = "adamw"  #: muon: the matrices of the layers by Muon
    lr: float = 1e-3  #: peak learning rate
    min_lr: float = 1e-4  #: at the end of the cosine
    warmup: int = 100  #: steps until the peak
    weight_decay: float = 0.1  #: of matrices; norms have none
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float = 1.0  #: largest norm of a gradient; 0: not clipped
    dropout: float = 0.0
    locked_dropout: bool = False  #: one mask for all positions of a row, none inside attention
    spell: bool = True  #: learn to spell rare characters in bytes; without, they only are read
    ema: float = 0.0  #: decay of a running average of the weights, which is then exported; 0: none

    keep: float = 1.0  #: weight of staying as it was, where there is text for that (--keep)

    unlikelihood: float = 0.0  #: weight of the faults in stories that it tells; 0: it tells none
    tell_every: int = 40  #: steps between two tellings
    told: int = 1500  #: stories in each

    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  #: of the products
    compile: Literal["auto", "yes", "no"] = "auto"  #: torch.compile
    device: str = "auto"  #: auto, cpu, cuda, cuda:0, mps
    threads: int = 0  #: of the CPU; 0: PyTorch's choice
    seed: int = 1

    evaluations: int = 20  #: during the run, evenly spread
    eval_batches: int = 20  #: batches of held-out text in one evaluation
    save_minutes: float = 5.0  #: between two checkpoints
    prompts: tuple[str, ...] = field(default=("从前", "有一天", ""))  #: of the sample stories

    def __post_init__(self) -> None:
        """Checks everything that can be checked without the model."""
        if (self.steps > 0) == (self.minutes > 0):
            raise InvalidArgument(
                f"steps is {self.steps} and minutes is {self.minutes:g}: set one of them, "
                "and the other to 0"
            )
        for name, low, high in _LIMITS:
            value = getattr(self, name)
            if not low <= value <= high:  # a NaN too
                raise InvalidArgument(f"{name} is {value:g}: expected {low:g} to {high:g}")
        if self.min_lr > self.lr:
            raise InvalidArgument(f"min_lr is {self.min_lr:g}, above lr, which is {self.lr:g}")


_LARGEST = 2**20  # number in a shape, so that the sizes of its tensors can be computed
_LIMITS: tuple[tuple[str, float, float], ...] = (
    ("steps", 0, 10**9),
    ("minutes", 0, 10**7),
    ("batch", 1, 10**6),
    ("length", 2, 2**20),
    ("long_every", 0, 10**9),
    ("accumulate", 1, 10**6),
    ("lr", 1e-9, 1),
    ("min_lr", 0, 1),
    ("warmup", 0, 10**9),
    ("weight_decay", 0, 10),
    ("beta1", 0, 0.999999),
    ("beta2", 0, 0.999999),
    ("grad_clip", 0, 1e9),
    ("dropout", 0, 0.9),
    ("ema", 0, 0.999999),
    ("keep", 0.001, 1000),
    ("unlikelihood", 0, 1000),
    ("tell_every", 1, 10**9),
    ("told", 2, 10**6),
    ("threads", 0, 1024),
    ("seed", 0, 2**31 - 1),
    ("evaluations", 0, 10**6),
    ("eval_batches", 1, 10**6),
    ("save_minutes", 0.01, 10**6),
)


@dataclass(frozen=True)
class Run:
    """A model's shape and its training."""

    model: Config
    training: Training

    def __post_init__(self) -> None:
        """Checks the shape, and what depends on both."""
        m, t = self.model, self.training
        for name in ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "seq_len"):
            if not 1 <= getattr(m, name) <= _LARGEST:
                raise InvalidArgument(f"{name} is {getattr(m, name)}: expected 1 to {_LARGEST}")
        if m.dim % (2 * m.n_heads):
            raise InvalidArgument(
                f"dim is {m.dim} and n_heads {m.n_heads}: dim must be a multiple of twice n_heads, "
                "so that heads have an even size"
            )
        if m.n_heads % m.n_kv_heads:
            raise InvalidArgument(
                f"n_heads is {m.n_heads} and n_kv_heads {m.n_kv_heads}: the second must divide "
                "the first"
            )
        if not 2 <= m.vocab_size <= 65536:
            raise InvalidArgument(
                f"vocab_size is {m.vocab_size}: expected 2 to 65536, since tokens are stored "
                "in 16 bits"
            )
        if t.length > m.seq_len:
            raise InvalidArgument(
                f"length is {t.length}, longer than the context, seq_len {m.seq_len}: "
                "make one of them fit"
            )

    def batch_sizes(self, devices: int = 1) -> tuple[tuple[int, int], tuple[int, int]]:
        """Sequences and their length: of an ordinary step and of a long one."""
        t = self.training
        sizes = [(t.batch, t.length)]
        if t.long_every:
            sizes.append((t.batch * t.length // self.model.seq_len, self.model.seq_len))
        for batch, length in sizes:
            if not batch or batch % (devices * t.accumulate):
                raise InvalidArgument(
                    f"batch is {t.batch}, which makes {batch} sequences of {length} tokens: not a "
                    f"multiple of {devices} devices times accumulate, {t.accumulate}"
                )
        return sizes[0], sizes[-1]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The two tables, as a file has them."""
        model = shape_table(self.model)
        training = dataclasses.asdict(self.training)
        return {"model": model, "training": training | {"prompts": list(self.training.prompts)}}

    @classmethod
    def from_dict(cls, tables: Mapping[str, Any], where: str = "configuration") -> Run:
        """The inverse; ``where`` stands for the source in messages."""
        for table in tables:
            if table not in ("model", "training"):
                raise InvalidArgument(
                    f"{where}: unknown table [{table}]; there are [model] and [training]"
                )
        model = _checked(Config, tables.get("model", {}), where)
        training = _checked(Training, tables.get("training", {}), where)
        for name in _FIELDS[Config]:
            if name not in model:
                raise InvalidArgument(f"{where}: [model] does not say {name}")
        return cls(Config(**model), Training(**training))

    def changed(self, settings: Sequence[str]) -> Run:
        """With some keys set: ``key=value``, the value as TOML has it or a bare word."""
        tables = self.as_dict()
        for setting in settings:
            key, equals, text = setting.partition("=")
            key, text = key.strip(), text.strip()
            if not equals or not key:
                raise InvalidArgument(f"{setting!r}: expected key=value, for example lr=0.001")
            name = key.rpartition(".")[2]
            table = "model" if name in _FIELDS[Config] else "training"
            if key not in (name, f"{table}.{name}"):
                raise InvalidArgument(f"{setting!r}: no key {key}; {name} belongs to [{table}]")
            tables[table][name] = _value(text)
        changed = {setting.partition("=")[0].strip().rpartition(".")[2] for setting in settings}
        if "minutes" in changed and "steps" not in changed:  # the one budget replaces the other
            tables["training"]["steps"] = 0
        if "steps" in changed and "minutes" not in changed:
            tables["training"]["minutes"] = 0.0
        return Run.from_dict(tables, "--set")


def shape_table(shape: Config) -> dict[str, Any]:
    """The table [model] of a file."""
    return {k: v for k, v in dataclasses.asdict(shape).items() if k not in _FIXED}


_FIELDS: dict[type, dict[str, Any]] = {
    cls: {k: v for k, v in typing.get_type_hints(cls).items() if k not in _FIXED}
    for cls in (Config, Training)
}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _checked(cls: type, table: object, where: str) -> dict[str, Any]:
    """The table's values, each of the type that its field has."""
    if not isinstance(table, Mapping):
        raise InvalidArgument(f"{where}: expected a table, found {table!r}")
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in _FIELDS[cls]:
            raise InvalidArgument(f"{where}: unknown key {name}; {_known(name)}")
        wanted = _FIELDS[cls][name]
        if typing.get_origin(wanted) is Literal:
            allowed = typing.get_args(wanted)
            if value not in allowed:
                raise InvalidArgument(
                    f"{where}: {name} is {value!r}: expected one of {', '.join(allowed)}"
                )
        elif typing.get_origin(wanted) is tuple:
            if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
                raise InvalidArgument(f"{where}: {name} is {value!r}: expected a list of strings")
            value = tuple(value)
        elif wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        elif type(value) is not wanted:
            kind = {int: "a whole number", float: "a number", bool: "true or false"}
            expected = kind.get(wanted, "a word")
            raise InvalidArgument(f"{where}: {name} is {value!r}: expected {expected}")
        values[name] = value
    return values


def _known(name: str) -> str:
    """The key that was meant, or all that there are."""
    every = [key for fields in _FIELDS.values() for key in fields]
    if near := difflib.get_close_matches(name, every, 1):
        return f"is it {near[0]}?"
    tables = {"model": Config, "training": Training}
    return "; ".join(f"[{table}] has {', '.join(_FIELDS[cls])}" for table, cls in tables.items())


def names() -> list[str]:
    """The named configurations."""
    return sorted(path.stem for path in _CONFIGS.glob("*.toml"))


def load(
    name: str,
    settings: Sequence[str] = (),
    vocab_size: int | None = None,
    shape: Config | None = None,
) -> Run:
    """A named configuration or a TOML file, with ``settings`` (``key=value``) applied.

    Args:
        vocab_size: replaces the file's: that of the tokens which there are.
        shape: that of the model to begin with, for files without a [model]; rows that are too
            long for it are as long as it allows.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if name not in names():
            raise InvalidArgument(
                f"no configuration {name!r}: there are {', '.join(names())}, or give a .toml file"
            )
        path = _CONFIGS / f"{name}.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileMissing(f"{path}: no such file") from None
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path}: not TOML: {error}") from None
    if shape is not None and "model" not in tables:
        tables["model"] = shape_table(shape)
        training = tables.setdefault("training", {})
        if isinstance(training, dict):
            length = training.get("length", Training.length)
            if isinstance(length, int):
                training["length"] = min(length, shape.seq_len)
                batch = training.get("batch", Training.batch)
                if isinstance(batch, int) and batch * length < shape.seq_len:
                    training["long_every"] = 0  # not one row so long
    elif tables.keys() == {"training"}:
        raise InvalidArgument(
            f"{path}: has no [model]: it is for runs that begin with the weights of another, "
            "`tinyzh train model … --from RUN`"
        )
    run = Run.from_dict(tables, str(path))
    if vocab_size is not None:
        run = dataclasses.replace(run, model=dataclasses.replace(run.model, vocab_size=vocab_size))
    return run.changed(settings)
