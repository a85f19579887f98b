"""Tells asynchronous readers that there is something new, by one thread for all models and loops.

The engine never takes Python's lock: it puts a number into a mailbox and goes on.  The postman
waits there, and calls each event loop once for all of its readers.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from collections import defaultdict
from threading import RLock, Thread
from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    import asyncio

    #: A loop, and what its reader waits for: weakly, or who is not read any more would stay.
    Reader = tuple[asyncio.AbstractEventLoop, weakref.ref[asyncio.Event]]

__all__ = ["Postman", "postman"]


class Postman:
    """The readers of many requests, each list of them under a key."""

    def __init__(self) -> None:
        self.mailbox = _core.Mailbox()
        self._readers: dict[int, list[Reader]] = {}
        self._keys = itertools.count()
        self._closed = False
        self._thread = Thread(target=self._deliver, name="tinyzh postman", daemon=True)
        self._thread.start()

    def add(self, readers: list[Reader]) -> int:
        """The key of a list, whose readers are woken from now on; the list may change."""
        key = next(self._keys)
        self._readers[key] = readers
        return key

    def remove(self, key: int) -> None:
        """Forgets a list."""
        self._readers.pop(key, None)

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        self.mailbox.close()
        self._thread.join(5)

    def _deliver(self) -> None:
        while not self._closed:
            self._wake(self.mailbox.take(1e6))

    def _wake(self, keys: list[int] | None) -> None:
        """In a call of its own, so that nothing is held while the thread waits."""
        events = defaultdict(list)
        for key in list(self._readers) if keys is None else keys:
            for loop, reader in list(self._readers.get(key, ())):
                event = reader()
                if event is not None:
                    events[loop].append(event)
        for loop, its_events in events.items():
            with contextlib.suppress(RuntimeError):  # the loop was closed under its readers
                loop.call_soon_threadsafe(_set_all, its_events)


def _set_all(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()


_lock = RLock()  # a reader that is collected takes it at any moment
_postman: tuple[int, Postman] | None = None  # of a process


def postman() -> Postman:
    """The one of this process; a forked child gets its own."""
    global _postman
    with _lock:
        if _postman is None or _postman[0] != os.getpid():
            _postman = (os.getpid(), Postman())
        return _postman[1]


def _forked() -> None:
    """In a forked child: of the parent's threads none is here, whatever they held or did."""
    global _lock
    _lock = RLock()
    _core.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def close() -> None:
    """Ends the thread, if it was ever needed."""
    if _postman is not None and _postman[0] == os.getpid():
        _postman[1].close()
