"""Ctrl-C and SIGTERM, which end a run after the step in hand."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["Stop", "stop_signals"]

# Seconds in which a second signal is taken for the first one once more: a nervous finger, or
# torchrun, which sends its processes the signal that the terminal has sent them already.
_SAME = 2.0


class Stop:
    """Whether somebody wants the run to end, and by which signal."""

    def __init__(self) -> None:
        self.signal = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stop_signals(say: Callable[[str], None] = lambda text: None) -> Iterator[Stop]:
    """Collects SIGINT and SIGTERM in the block; a second one does what it always does.

    ``say`` is told at once, since a step may take a while.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    first = 0.0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not stop:
            stop.signal, first = number, time.monotonic()
            with suppress(RuntimeError):  # standard error was just being written to
                say("finishing what is in hand, then saving; once more ends without saving")
        elif time.monotonic() - first > _SAME:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
