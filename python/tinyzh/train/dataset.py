"""Batches of token shards: which rows step n has depends on n, not on the steps before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import FileMissing, InvalidArgument

__all__ = ["Batch", "TokenDataset"]

BOS = 1

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Inputs and targets, both (B, T): a target is the token after its input."""


class TokenDataset:
    """One split of a folder made by :func:`tinyzh.train.shards.prepare`.

    Raises:
        FileMissing: there is no such folder, or it is not finished.
        InvalidArgument: an unknown split.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self.folder, self.split = Path(folder), split
        path = self.folder / "meta.json"
        meta = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if "splits" not in meta:
            raise FileMissing(f"{path}: not there or not finished; run `tinyzh train prepare`")
        if split not in meta["splits"]:
            raise InvalidArgument(f"split is {split!r}: expected one of {list(meta['splits'])}")
        self.vocab_size: int = meta["vocab_size"]
        self.stories: int = meta["splits"][split]["stories"]
        self.characters: int = meta["splits"][split]["characters"]
        self.shards: list[NDArray[np.uint16]] = [
            np.memmap(self.folder / name, dtype="<u2", mode="r")
            for name in meta["splits"][split]["shards"]
        ]
        self._windows = lru_cache(maxsize=4)(self._find_windows)
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def __len__(self) -> int:
        """The number of tokens."""
        return sum(map(len, self.shards))

    @property
    def tokens(self) -> NDArray[np.uint16]:
        """All tokens: the memory map if there is one shard, else a copy of them all."""
        if len(self.shards) == 1:
            return self.shards[0]
        return np.concatenate([np.empty(0, np.uint16), *self.shards])

    @cached_property
    def _story_starts(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(shard == BOS) for shard in self.shards]

    def _find_windows(self, length: int, aligned: bool) -> NDArray[np.int64]:
        """The rows of ``length`` inputs and a target, (W, 2): shard and start of each."""
        found: list[tuple[int, int]] = []
        for number, shard in enumerate(self.shards):
            end = len(shard) - length  # the first start without a last target
            if end > 0:
                stories = self._story_starts[number]
                starts = _aligned(stories, length, end) if aligned else list(range(0, end, length))
                if starts[-1] < end - 1:  # what is left of the shard, in a row that overlaps
                    starts.append(end - 1)
                found += [(number, start) for start in starts]
        if not found:
            raise InvalidArgument(
                f"{self.folder}: no shard of {self.split!r} has more than {length} tokens (it has "
                f"{len(self)} in {len(self.shards)} shards); use a shorter context or more text"
            )
        return np.array(found, dtype=np.int64)

    def _shuffled(self, length: int, aligned: bool, seed: int, epoch: int) -> NDArray[np.int64]:
        windows = self._windows(length, aligned)
        return np.random.default_rng([seed, epoch]).permutation(windows)

    def windows(self, length: int, *, aligned: bool = True) -> int:
        """How many rows of ``length`` tokens there are in one epoch."""
        return len(self._windows(length, aligned))

    def batch(
        self,
        step: int,
        batch: int,
        length: int,
        seed: int = 1,
        rank: int = 0,
        world: int = 1,
        *,
        aligned: bool = True,
    ) -> NDArray[np.int64]:
        """The rows of one step, (batch / world, length + 1): inputs and the last target.

        Rows are windows of packed stories, each once in an epoch, in a new random order. Of
        ``world`` processes each has its part of the batch, together the rows of one alone.

        Args:
            batch: rows of all processes together.
            length: tokens of a row that are inputs.
            aligned: each row begins with a story; the one that did not fit into the row before
                it begins again. Otherwise rows follow each other wherever they are cut.
        """
        for name, value, least in (("step", step, 0), ("batch", batch, 1), ("length", length, 1)):
            if value < least:
                raise InvalidArgument(f"{name} is {value}: expected at least {least}")
        if not 0 <= rank < world or batch % world:
            raise InvalidArgument(
                f"rank is {rank} of {world} with a batch of {batch}: expected a rank below the "
                "number of processes, and a batch that they can share evenly"
            )
        windows = self.windows(length, aligned=aligned)
        share = batch // world
        first = step * batch + rank * share
        rows = np.empty((share, length + 1), dtype=np.int64)
        for row in range(share):
            epoch, place = divmod(first + row, windows)
            shard, start = self._order(length, aligned, seed, epoch)[place]
            rows[row] = self.shards[shard][start : start + length + 1]
        return rows

    def batches(
        self,
        batch: int,
        length: int,
        seed: int = 1,
        rank: int = 0,
        world: int = 1,
        *,
        step: int = 0,
        aligned: bool = True,
    ) -> Iterator[Batch]:
        """Inputs and targets of ``step``, ``step + 1`` … without end: to resume, give the step."""
        for number in count(step):
            rows = self.batch(number, batch, length, seed, rank, world, aligned=aligned)
            yield rows[:, :-1], rows[:, 1:]


def _aligned(stories: NDArray[np.int64], length: int, end: int) -> list[int]:
    """Starts of rows: the first story not whole in the row before, or the rest of a long one."""
    starts: list[int] = []
    start = 0
    while start < end:
        starts.append(start)
        story = int(stories[np.searchsorted(stories, start + length, side="right") - 1])
        start = story if story > start else start + length
    return starts
