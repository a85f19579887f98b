"""A model's tensors by name, in the words of the file; docs/formats.md has the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from . import _core
from .config import Config
from .errors import CheckpointError, InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "LAYER_TENSORS",
    "Names",
    "Tensor",
    "Told",
    "Weights",
    "as_float16",
    "each",
    "gather",
    "nothing",
    "shapes",
    "stacked",
]

#: The tensors that every layer has.
LAYER_TENSORS = ("rms_att", "wq", "wk", "wv", "wo", "rms_ffn", "w1", "w2", "w3")


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape, with all layers of a tensor as one array, in the order of the file."""
    layers, dim, hidden, vocab = (
        config.n_layers,
        config.dim,
        config.hidden_dim,
        config.vocab_size,
    )
    result: dict[str, tuple[int, ...]] = {
        "tok_emb": (vocab, dim),
        "rms_att": (layers, dim),
        "wq": (layers, dim, dim),
        "wk": (layers, config.kv_dim, dim),
        "wv": (layers, config.kv_dim, dim),
        "wo": (layers, dim, dim),
        "rms_ffn": (layers, dim),
        "w1": (layers, hidden, dim),
        "w2": (layers, dim, hidden),
        "w3": (layers, hidden, dim),
        "rms_final": (dim,),
    }
    return result if config.tied else result | {"wcls": (vocab, dim)}


def each(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor, layers one by one: ``tok_emb``, ``layers.0.rms_att`` …"""
    for name, shape in shapes(config).items():
        if name in LAYER_TENSORS:
            yield from ((f"layers.{i}.{name}", shape[1:]) for i in range(shape[0]))
        else:
            yield name, shape


Told = Callable[[int, int], object]  # how much is done of how much


def nothing(done: int, total: int) -> None:
    """Nobody wants to be told."""


# ---- out of files ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Names:
    """How another format calls the tensors."""

    outside: Mapping[str, str]  #: of the layers: our name -> theirs
    layer: str  #: what stands before those of a layer, with {} for its number
    inside: Mapping[str, str]

    def of(self, name: str) -> str:
        """Theirs for one of ours, such as ``layers.0.wq``."""
        if name in self.outside:
            return f"{self.outside[name]}.weight"
        _, layer, tensor = name.split(".")
        return f"{self.layer.format(layer)}.{self.inside[tensor]}.weight"


class Tensor(Protocol):
    """A tensor of a file, which is read when it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def read(self) -> NDArray[np.floating[Any]]: ...


def gather(
    config: Config,
    names: Names,
    held: Mapping[str, Tensor],
    where: object,
    *,
    surplus: Callable[[str], bool] = lambda name: False,
    changed: Callable[[str, NDArray[Any]], NDArray[Any]] = lambda name, values: values,
    told: Told = nothing,
) -> dict[str, NDArray[np.float32]]:
    """A model's tensors as :func:`shapes` names them, out of a file's.

    Args:
        held: all that the file has, by its names.
        where: the file, for messages.
        surplus: whether a tensor may be there that no model needs.
        changed: what becomes of the values of one of our names, on the way.
        told: told the weights that have been read, and how many there are.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape.
    """
    import numpy as np

    left, found = dict(held), {}
    for name, shape in each(config):  # before memory is taken for anything
        tensor = left.pop(names.of(name), None)
        if tensor is None:
            raise CheckpointError(
                f"{where}: holds no {names.of(name)}, so it is not a whole Llama: download it again"
            )
        if tensor.shape != shape:
            raise CheckpointError(
                f"{where}: {names.of(name)} has the shape {tensor.shape}, and the configuration "
                f"makes it {shape}"
            )
        found[name] = tensor
    for other in left:
        if not surplus(other):
            raise CheckpointError(
                f"{where}: holds {other}, which is not part of a Llama that this engine computes"
            )
    arrays = {name: np.empty(shape, np.float32) for name, shape in shapes(config).items()}
    done, total = 0, sum(array.size for array in arrays.values())
    for name, tensor in found.items():
        told(done, total)
        layer, _, inner = name.removeprefix("layers.").rpartition(".")
        target = arrays[inner][int(layer)] if layer else arrays[inner]
        target[...] = changed(inner, tensor.read())
        done += target.size
    told(done, total)
    return arrays


# ---- into files --------------------------------------------------------------------------------


def as_float16(name: str, array: NDArray[np.float32]) -> NDArray[np.float16]:
    """A tensor rounded; InvalidArgument: a weight is too large for that."""
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = array.astype(np.float16)
    if not np.isfinite(narrow).all() and np.isfinite(array).all():
        raise InvalidArgument(
            f"{name} has a weight of {np.abs(array).max():g}, and float16 ends at 65504: take "
            "dtype float32"
        )
    return narrow


# ---- out of arrays -----------------------------------------------------------------------------


def stacked(config: Config, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The tensors as :func:`shapes` names them; float32 that lies without gaps is not copied.

    Args:
        arrays: by those names, or with the layers one by one, as ``layers.0.wq``.

    Raises:
        InvalidArgument: a tensor is missing, unknown, of another shape, or holds no numbers.
    """
    import numpy as np

    left = dict(arrays)
    result = {}
    for name, shape in shapes(config).items():
        if name in LAYER_TENSORS and name not in left:
            parts = [_taken(left, f"layers.{i}.{name}", shape[1:]) for i in range(shape[0])]
            result[name] = np.stack(parts).astype(np.float32, copy=False)
        else:
            result[name] = np.ascontiguousarray(_taken(left, name, shape), np.float32)
    if left:
        raise InvalidArgument(
            f"arrays has {sorted(left)[0]!r}, which this model has no place for: expected "
            f"{', '.join(shapes(config))}, or layers.0.wq and so on"
        )
    return result


def _taken(
    arrays: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[np.floating[Any]]:
    import numpy as np

    if name not in arrays:
        raise InvalidArgument(f"arrays has no {name!r}: expected one of shape {shape}")
    array = np.asarray(arrays.pop(name))
    if not np.issubdtype(array.dtype, np.floating):
        raise InvalidArgument(f"{name} is an array of {array.dtype}: expected float32")
    if array.shape != shape:
        raise InvalidArgument(f"{name} has the shape {array.shape}: expected {shape}")
    return array


class Weights(Mapping[str, "NDArray[np.float32]"]):
    """A model's tensors, read-only: ``tok_emb``, ``layers.0.wq`` … ``rms_final``, ``wcls``.

    float32 weights are seen where the model has them, without a copy; int8 and int4 ones are
    made float32 at every access.  Shapes as in docs/formats.md: matrices (rows, columns), vectors
    (dim).
    """

    def __init__(self, core: _core.Model, config: Config) -> None:
        self._core = core
        self._names = [name for name, _ in each(config)]

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name not in self._names:
            raise KeyError(name)
        import numpy  # noqa: F401  before the core does

        layer, _, tensor = name.removeprefix("layers.").rpartition(".")
        return self._core.weight(tensor, int(layer or 0))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<tinyzh.Weights: {len(self)} tensors>"
