"""What happens inside: every intermediate of a forward pass, by name, as NumPy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .config import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Trace"]


class Trace(Mapping[str, "NDArray[np.float32]"]):
    """The intermediates of one text, float32.  T positions, D dim, H hidden_dim, V vocab_size.

    For each layer, as ``layers.0.x`` and so on, in the order of the computation:

    ============= ============================ ====================================================
    ``x``         (T, D)                       the residual stream that enters the layer
    ``att_norm``  (T, D)                       RMSNorm of it
    ``q``         (T, n_heads, head_size)      queries, turned by their positions (RoPE)
    ``k``, ``v``  (T, n_kv_heads, head_size)   keys (turned) and values
    ``attention`` (n_heads, T, T)              how much position t (row) looks at s (column): rows
                                               sum to 1, and nothing looks ahead
    ``att``       (T, D)                       what the heads found, side by side
    ``att_out``   (T, D)                       that times wo, which is added to ``x``
    ``x_mid``     (T, D)                       the residual stream between the layer's halves
    ``ffn_norm``  (T, D)                       RMSNorm of it
    ``gate``      (T, H)                       silu(w1 x) * (w3 x)
    ``ffn_out``   (T, D)                       that times w2, which is added to ``x_mid``
    ============= ============================ ====================================================

    and then ``x`` (T, D), the residual stream behind the last layer, ``final_norm`` (T, D) and
    ``logits`` (T, V).

    ``attention`` is computed here from ``q`` and ``k`` when it is asked for: the engine never has
    the whole of it in memory.  (With a kv_dtype of float16 or int8 the engine uses rounded keys.)
    """

    def __init__(self, found: dict[str, NDArray[np.float32]], config: Config) -> None:
        self._found = found
        self._config = config
        self._names = list(_in_order(config.n_layers))
        last = f"layers.{config.n_layers - 1}"
        found["x"] = found[f"{last}.x_mid"] + found[f"{last}.ffn_out"]  # as the engine adds them

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        if name not in self._names:
            raise KeyError(name)
        layer, _, what = name.rpartition(".")
        if what == "attention":
            return self._attention(layer)
        array = self._found[name]
        if what in ("q", "k", "v"):
            return array.reshape(len(array), -1, self._config.head_size)
        return array

    def _attention(self, layer: str) -> NDArray[np.float32]:
        import numpy as np

        q, k = self[f"{layer}.q"], self[f"{layer}.k"]
        shared = self._config.n_heads // self._config.n_kv_heads  # query heads of one kv head
        keys = np.repeat(k, shared, axis=1).transpose(1, 2, 0)  # (n_heads, head_size, T)
        scores = q.transpose(1, 0, 2) @ keys / np.sqrt(np.float32(self._config.head_size))
        ahead = np.triu(np.ones((len(q), len(q)), bool), 1)
        scores = np.where(ahead, -np.inf, scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares: NDArray[np.float32] = weights / weights.sum(axis=-1, keepdims=True)
        return shares.astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<tinyzh.Trace: {len(self)} intermediates of {len(self['logits'])} positions>"


_LAYER = (
    "x",
    "att_norm",
    "q",
    "k",
    "v",
    "attention",
    "att",
    "att_out",
    "x_mid",
    "ffn_norm",
    "gate",
    "ffn_out",
)  # in the order of the computation


def _in_order(n_layers: int) -> Iterator[str]:
    for layer in range(n_layers):
        yield from (f"layers.{layer}.{name}" for name in _LAYER)
    yield from ("x", "final_norm", "logits")
