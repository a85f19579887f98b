"""How llama2.c's ``run`` chooses tokens, in NumPy: what the same seed has to give."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BOS = 1
_MASK = 2**64 - 1


class Random:
    """xorshift64*; the seed is the state."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def coin(self) -> np.float32:
        """In [0, 1)."""
        s = self.state
        s ^= s >> 12
        s ^= s << 25 & _MASK
        s ^= s >> 27
        self.state = s
        u32 = (s * 0x2545F4914F6CDD1D & _MASK) >> 32
        return np.float32(u32 >> 8) / np.float32(2**24)


def first(condition: NDArray[np.bool_], otherwise: int) -> int:
    """Index of the first True."""
    return int(condition.argmax()) if condition.any() else otherwise


def choose(logits: Floats, temperature: float, top_p: float, random: Random) -> int:
    """The next token.  Sums run in the order of the index, in float32, as cumsum adds."""
    if temperature == 0:
        return int(logits.argmax())
    scaled = logits / np.float32(temperature)
    e = np.exp(scaled - scaled.max())
    p: Floats = e / np.cumsum(e)[-1]
    coin = random.coin()
    last = len(p) - 1
    if top_p <= 0 or top_p >= 1:
        return first(coin < np.cumsum(p), last)

    cutoff = (np.float32(1) - np.float32(top_p)) / np.float32(last)
    kept = np.flatnonzero(p >= cutoff)
    order = kept[np.lexsort((kept, -p[kept]))]  # probability falling, then id rising
    cumulative = np.cumsum(p[order])
    end = first(cumulative > np.float32(top_p), len(order) - 1)
    point = coin * cumulative[end]
    return int(order[first(point < cumulative[: end + 1], end)])


def continue_ids(
    logits: Callable[[Sequence[int]], Floats],
    prompt: Sequence[int],
    *,
    temperature: float,
    top_p: float,
    seed: int,
    steps: int,
    ends: Sequence[int] = (BOS,),
) -> list[int]:
    """At most ``steps`` new tokens; ``logits(ids)`` gives those after each id, (T, V)."""
    random, ids, new = Random(seed), list(prompt), []
    while len(new) < steps:
        token = choose(logits(ids)[-1], temperature, top_p, random)
        if token in ends:
            break
        ids.append(token)
        new.append(token)
    return new
