"""Batches of token shards: which rows step n has depends on n, not on the steps before it."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, FileMissing, InvalidArgument
from .extra import counted
from .shards import load_meta
from .tokenizer_files import find_trained, forms_of, sha256

__all__ = ["Batches", "TokenDataset"]

BOS = 1


class Batches(Protocol):
    """Where tokens come from: :class:`TokenDataset`, say."""

    @property
    def longest(self) -> int:
        """How many inputs the longest row can have."""

    def windows(self, length: int) -> int:
        """How many rows of ``length`` inputs there are in one pass; InvalidArgument: none."""

    def batch(
        self, step: int, batch: int, length: int, seed: int = 1, rank: int = 0, world: int = 1
    ) -> NDArray[np.integer[Any]]:
        """This worker's rows (batch / world, length + 1) of the batch of a step."""


class TokenDataset:
    """One split of a folder made by :func:`tinyzh.train.shards.prepare`.

    Raises:
        FileMissing: there is no such folder, or it is not finished.
        FileError: a file in it is damaged.
        InvalidArgument: an unknown split.
    """

    def __init__(self, folder: str | Path, split: str = "train") -> None:
        self.folder, self.split = Path(folder), split
        path = self.folder / "meta.json"
        meta = load_meta(self.folder) if path.exists() else {}
        if "splits" not in meta:
            raise FileMissing(f"{path}: not there or not finished; run `tinyzh train prepare`")
        if split not in meta["splits"]:
            raise InvalidArgument(f"split is {split!r}: expected one of {list(meta['splits'])}")
        self.vocab_size: int = meta["vocab_size"]
        self._made_by: str = meta["made_of"]["tokenizer"]
        self.shards = [_mapped(self.folder / name) for name in meta["splits"][split]["shards"]]
        self._windows = lru_cache(maxsize=4)(self._find_windows)
        self._order = lru_cache(maxsize=4)(self._shuffled)

    def __len__(self) -> int:
        """The number of tokens."""
        return sum(map(len, self.shards))

    @property
    def longest(self) -> int:
        """How many inputs the longest row can have that fits into a shard; 0: there is no text."""
        return max((len(shard) - 1 for shard in self.shards), default=0)

    def tokenizer(self, named: Path | None = None) -> Path:
        """The tokenizer that made these tokens: a copy in the folder, or the one that is named.

        Raises:
            FileMissing: there is none.
            InvalidArgument: it is another one.
        """
        try:
            tokenizer = find_trained(named or self.folder)
        except FileMissing as error:
            if named is not None:
                raise
            raise FileMissing(f"{error}: name what made the tokens with --tokenizer") from None
        if self._made_by not in map(sha256, forms_of(tokenizer)):
            raise InvalidArgument(
                f"{tokenizer}: not the tokenizer that {self.folder} was made with, though it may "
                "have as many pieces: leave out --tokenizer, or prepare the tokens again"
            )
        return tokenizer

    @cached_property
    def _story_starts(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(shard == BOS) for shard in self.shards]

    def _find_windows(self, length: int) -> NDArray[np.int64]:
        """The rows of ``length`` inputs and a target, (W, 2): shard and start of each."""
        found: list[tuple[int, int]] = []
        for number, shard in enumerate(self.shards):
            end = len(shard) - length  # the first start without a last target
            if end > 0:
                stories = self._story_starts[number]
                starts = _aligned(stories, length, end)
                if starts[-1] < end - 1:  # what is left of the shard, in a row that overlaps
                    starts.append(end - 1)
                found += [(number, start) for start in starts]
        if not found:
            raise InvalidArgument(
                f"{self.folder}: no shard of {self.split!r} has more than {length} tokens (it has "
                f"{len(self)} in {counted(len(self.shards), 'shard')}): give more text, or shorter "
                "rows with --set length=…"
            )
        return np.array(found, dtype=np.int64)

    def _shuffled(self, length: int, seed: int, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([seed, epoch]).permutation(self._windows(length))

    def windows(self, length: int) -> int:
        """How many rows of ``length`` tokens there are in one epoch.

        Raises:
            InvalidArgument: there is not enough text for one.
        """
        return len(self._windows(length))

    def batch(
        self,
        step: int,
        batch: int,
        length: int,
        seed: int = 1,
        rank: int = 0,
        world: int = 1,
    ) -> NDArray[np.int64]:
        """The rows of one step, (batch / world, length + 1): inputs and the last target.

        Rows are windows of packed stories, each once in an epoch, in a new random order. A row
        begins with a story, and the one that did not fit into the row before begins it again. Of
        ``world`` processes each has its part of the batch, together the rows of one alone.

        Args:
            batch: rows of all processes together.
            length: tokens of a row that are inputs.
        """
        for name, value, least in (("step", step, 0), ("batch", batch, 1), ("length", length, 1)):
            if value < least:
                raise InvalidArgument(f"{name} is {value}: expected at least {least}")
        if not 0 <= rank < world or batch % world:
            raise InvalidArgument(
                f"rank is {rank} of {world} with a batch of {batch}: expected a rank below the "
                "number of processes, and a batch that they can share evenly"
            )
        windows = self.windows(length)
        share = batch // world
        first = step * batch + rank * share
        rows = np.empty((share, length + 1), dtype=np.int64)
        for row in range(share):
            epoch, place = divmod(first + row, windows)
            shard, start = self._order(length, seed, epoch)[place]
            rows[row] = self.shards[shard][start : start + length + 1]
        return rows


def _mapped(shard: Path) -> NDArray[np.uint16]:
    try:
        return np.memmap(shard, dtype="<u2", mode="r")
    except FileNotFoundError:
        raise FileMissing(f"{shard}: no such file; `tinyzh train prepare` makes it anew") from None
    except ValueError as error:
        raise FileError(
            f"{shard}: damaged ({error}): remove it, and `tinyzh train prepare` makes it anew"
        ) from None


def _aligned(stories: NDArray[np.int64], length: int, end: int) -> list[int]:
    """Starts of rows: the first story not whole in the row before, or the rest of a long one."""
    starts: list[int] = []
    start = 0
    while start < end:
        starts.append(start)
        story = int(stories[np.searchsorted(stories, start + length, side="right") - 1])
        start = story if story > start else start + length
    return starts
