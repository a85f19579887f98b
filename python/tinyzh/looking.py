"""Looking inside: logits, every intermediate, vectors for texts, weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .errors import InvalidArgument
from .opened import Opened
from .sampling import checked_integer
from .trace import Trace
from .weights import Weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Looking"]


class Looking(Opened):
    """The part of :class:`tinyzh.Model` that shows what is in it, as NumPy arrays."""

    @property
    def weights(self) -> Weights:
        """Its tensors by name, as read-only arrays."""
        return Weights(self._core, self._config)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits after each token: (T, vocab_size) float32; broken weights show as NaN.

        Raises:
            InvalidArgument: an id out of range.
            ContextFull: more tokens than the context.
        """
        if isinstance(ids, str):
            raise InvalidArgument(f"ids is {ids!r:.100}: expected a list of token ids")
        return self._engine.logits(self._fitting(ids, 0))

    def trace(self, text: str | Sequence[int]) -> Trace:
        """Every intermediate of a forward pass, by name; see :class:`Trace`.

        Args:
            text: a text (BOS is put before it), or token ids.

        Raises:
            InvalidArgument: an id out of range, or no id.
            ContextFull: more tokens than the context.
        """
        return Trace(self._engine.trace(self._fitting(text)), self._config)

    def hidden_states(self, text: str | Sequence[int], layer: int = -1) -> NDArray[np.float32]:
        """The residual stream behind a layer: (T, dim) float32, no norm applied.

        Args:
            text: a text (BOS is put before it), or token ids.
            layer: 0: the token embeddings; 1 to n_layers: behind that layer; -1: behind the last.

        Raises:
            InvalidArgument: an id or a layer out of range, or no id.
            ContextFull: more tokens than the context.
        """
        last = self._config.n_layers
        layer = checked_integer("layer", layer, -last - 1, last) % (last + 1)
        if layer < last:
            name = f"layers.{layer}.x"
            return self._engine.trace(self._fitting(text), {name})[name]
        names = {f"layers.{last - 1}.x_mid", f"layers.{last - 1}.ffn_out"}
        middle, more = self._engine.trace(self._fitting(text), names).values()
        behind: NDArray[np.float32] = middle + more
        return behind

    def embed(self, text: str | Sequence[str], pooling: str = "mean") -> NDArray[np.float32]:
        """Vectors for texts: what the last norm gives, before the classifier.

        Args:
            text: one text, or several.
            pooling: ``mean`` over the tokens (BOS left out, unless there is no other); ``last``:
                of the last token; ``none``: of every token, BOS first.

        Returns:
            (dim) float32 of one text, (n, dim) of several; with ``none`` (T, dim) of one text.

        Raises:
            InvalidArgument: no text, an unknown pooling, or several texts with ``none``.
            ContextFull: a text is longer than the context.
        """
        if pooling not in ("mean", "last", "none"):
            raise InvalidArgument(f"pooling is {pooling!r:.100}: expected mean, last or none")
        if not isinstance(text, str):
            texts = list(text) if isinstance(text, Iterable) else []
            if not texts or pooling == "none" or not all(isinstance(t, str) for t in texts):
                raise InvalidArgument(
                    f"text is {text!r:.100}: expected a text, or with mean or last a list of them"
                )
            import numpy as np

            return np.stack([self.embed(one, pooling) for one in texts])
        states = self._engine.trace(self._fitting(text), {"final_norm"})["final_norm"]
        if pooling == "none":
            return states
        chosen = states[-1:] if pooling == "last" else states[len(states) > 1 :]
        vector: NDArray[np.float32] = chosen.mean(axis=0)
        return vector
