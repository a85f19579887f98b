"""A model's tensors by name, in the words of the file; docs/formats.md has the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import _core
from .config import Config
from .errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LAYER_TENSORS", "Weights", "shapes", "stacked"]

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
        self._names = [
            f"layers.{i}.{name}" if name in LAYER_TENSORS else name
            for name in shapes(config)
            for i in range(config.n_layers if name in LAYER_TENSORS else 1)
        ]

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
