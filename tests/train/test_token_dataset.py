"""Batches: a function of the step, shared by processes, that leaves out no token."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tinyzh.errors import FileError, FileMissing, InvalidArgument
from tinyzh.train.dataset import TokenDataset

LENGTH = 16
Make = Callable[..., TokenDataset]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A dataset of shards; every story is BOS and ids that occur nowhere else."""

    def dataset(*shards: list[int]) -> TokenDataset:
        fresh, names = itertools.count(2), []
        for number, lengths in enumerate(shards):
            ids = [i for n in lengths for i in (1, *itertools.islice(fresh, n - 1))]
            names.append(f"train_{number:03}.bin")
            np.array(ids, dtype="<u2").tofile(tmp_path / names[-1])
        counts = {"shards": names, "stories": 0, "characters": 0, "tokens": 0}
        meta = {"made_of": {"tokenizer": ""}, "vocab_size": 60000, "splits": {"train": counts}}
        (tmp_path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        return TokenDataset(tmp_path)

    return dataset


def lengths(count: int, longest: int = 12, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [rng.randint(2, longest) for _ in range(count)]


def rows_of_epoch(data: TokenDataset, epoch: int = 0) -> list[list[int]]:
    count = data.windows(LENGTH)
    return [data.batch(epoch * count + i, 1, LENGTH)[0].tolist() for i in range(count)]


def all_tokens(data: TokenDataset) -> set[int]:
    return {int(token) for shard in data.shards for token in shard}


def test_rows_are_the_text(make: Make) -> None:
    data = make(lengths(100), lengths(50))
    text = [shard.tolist() for shard in data.shards]
    for row in rows_of_epoch(data):
        assert len(row) == LENGTH + 1
        fresh = next(i for i in row if i != 1)
        shard = next(shard for shard in text if fresh in shard)
        start = shard.index(fresh) - row.index(fresh)
        assert shard[start : start + LENGTH + 1] == row


def test_aligned_rows_begin_with_a_story_and_miss_no_token(make: Make) -> None:
    data = make(lengths(200), lengths(100))
    rows = rows_of_epoch(data)
    assert sum(row[0] != 1 for row in rows) <= 2  # at the end of each shard
    assert {token for row in rows for token in row} == all_tokens(data)
    assert 1 < len(rows) * LENGTH / len(data) < 1.7  # what is told twice


def test_the_rest_of_a_long_story_follows(make: Make) -> None:
    data = make([5, 100, 5, 100, 40])
    rows = rows_of_epoch(data)
    assert {token for row in rows for token in row} == all_tokens(data)
    assert sum(row[0] == 1 for row in rows) == 4  # all but the third, whole in a row before


def test_every_epoch_has_another_order(make: Make) -> None:
    data = make(lengths(100))
    orders = [rows_of_epoch(data, epoch=epoch) for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert len({tuple(row) for row in orders[0]}) == len(orders[0])
    assert (data.batch(0, 4, LENGTH, 1) != data.batch(0, 4, LENGTH, 2)).any()


def test_a_step_is_the_same_however_it_is_reached(make: Make) -> None:
    data = make(lengths(80), lengths(80))
    run = [data.batch(step, 4, LENGTH) for step in range(30)]
    for step in (29, 7, 0):
        rows = TokenDataset(data.folder).batch(step, 4, LENGTH)
        np.testing.assert_array_equal(rows, run[step])
    assert rows.shape == (4, LENGTH + 1)
    assert rows.dtype == np.int64


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_batch(make: Make, world: int) -> None:
    data = make(lengths(60))
    for step in range(20):
        alone = data.batch(step, 6, LENGTH)
        parts = [data.batch(step, 6, LENGTH, rank=rank, world=world) for rank in range(world)]
        np.testing.assert_array_equal(np.concatenate(parts), alone)


def test_what_is_damaged_is_named(make: Make, tmp_path: Path) -> None:
    make([5, 5])
    shard, meta = tmp_path / "train_000.bin", tmp_path / "meta.json"
    for data in (b"", b"\1\0\2"):
        shard.write_bytes(data)
        with pytest.raises(FileError, match=r"train_000\.bin: damaged \(.+\): remove it, and"):
            TokenDataset(tmp_path)
    shard.unlink()
    with pytest.raises(FileMissing, match=r"train_000\.bin: no such file; `tinyzh train prepare`"):
        TokenDataset(tmp_path)
    meta.write_text(meta.read_text(encoding="utf-8")[:20], encoding="utf-8")
    with pytest.raises(FileError, match=r"meta\.json: damaged"):
        TokenDataset(tmp_path)


def test_what_cannot_be_is_named(make: Make) -> None:
    data = make([5, 5], [4])
    with pytest.raises(InvalidArgument, match=r"no shard of 'train' has more than 16 tokens"):
        data.batch(0, 1, LENGTH)
    assert data.longest == 9
    assert data.batch(0, 1, 9).shape == (1, 10)  # the whole first shard
    assert make().longest == 0
    for arguments in ((-1, 1, 4), (0, 0, 4), (0, 1, 0)):
        with pytest.raises(InvalidArgument, match=": expected at least"):
            data.batch(*arguments)
    with pytest.raises(InvalidArgument, match="rank is 0 of 2 with a batch of 3"):
        data.batch(0, 3, 4, rank=0, world=2)
    with pytest.raises(InvalidArgument, match="rank is 2 of 2"):
        data.batch(0, 2, 4, rank=2, world=2)
