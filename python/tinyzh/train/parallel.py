"""Work for several processes, with results in order."""

from __future__ import annotations

import itertools
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from .errors import TrainingError

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

    Raises:
        TrainingError: a process ended before its work was done.
    """
    if processes <= 1:
        yield map(function, items)
        return
    # spawn: threads of the engine or of PyTorch do not survive a fork
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_end_quietly)
    try:
        yield _ordered(pool, function, iter(items), processes * (1 + ahead))
    except BrokenProcessPool:
        raise TrainingError(
            "a process that was started for a part of the work ended at once: a script must do "
            'its work below `if __name__ == "__main__":`, or ask for one process; else memory '
            "may be short"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _ordered(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterator[Item], ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()

    def submit(count: int) -> None:
        waiting.extend(pool.submit(function, item) for item in itertools.islice(items, count))

    with _ctrl_c_kept_waiting():  # the processes start here
        submit(ahead)
    while waiting:
        result = waiting.popleft().result()
        submit(1)
        yield result


@contextmanager
def _ctrl_c_kept_waiting() -> Iterator[None]:
    """Ctrl-C comes at the end of the block; processes that are started in it get none.

    It goes to all processes of a terminal, and one that is just starting would print where it was.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_quietly() -> None:
    """A process that has started ends at Ctrl-C, without a word: the first one says it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
