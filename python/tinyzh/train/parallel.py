"""Work for several processes, with results in order."""

from __future__ import annotations

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.pool import AsyncResult, Pool
from typing import TypeVar

__all__ = ["ordered_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int, ahead: int = 4
) -> Iterator[Iterator[Result]]:
    """``map(function, items)`` in several processes; the items may be without end.

    ``ahead`` is how many items a process may have waiting, before the results are read.

    One process means this one. The function and what it takes and gives must be picklable, and
    a script that comes here needs ``if __name__ == "__main__":``.
    """
    if processes <= 1:
        yield map(function, items)
        return
    # spawn: threads of the engine or of PyTorch do not survive a fork
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield _ordered(pool, function, iter(items), processes * (1 + ahead))


def _ordered(
    pool: Pool, function: Callable[[Item], Result], items: Iterator[Item], ahead: int
) -> Iterator[Result]:
    def submit(count: int) -> None:
        waiting.extend(
            pool.apply_async(function, (item,)) for item in itertools.islice(items, count)
        )

    waiting: deque[AsyncResult[Result]] = deque()
    submit(ahead)
    while waiting:
        result = waiting.popleft().get()
        submit(1)
        yield result
