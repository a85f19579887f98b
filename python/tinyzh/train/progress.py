"""How far a run is, for people: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .extra import require
from .loop import Progress

__all__ = ["shown"]

_SECONDS = 30  # between two lines


@contextmanager
def shown() -> Iterator[Progress]:
    """Something to tell progress to, which goes to standard error."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    with require("tqdm").tqdm(
        total=1.0,
        dynamic_ncols=True,
        bar_format="{percentage:5.1f}% |{bar}| {elapsed}<{remaining} {desc}",
    ) as bar:
        yield _Bar(bar)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar, self._begun = bar, False

    def say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def show(self, done: float, text: str) -> None:
        if not self._begun:  # what an earlier run has done takes no time from this one
            self._bar.initial, self._begun = done, True
        self._bar.set_description_str(text, refresh=False)
        self._bar.n = done
        self._bar.refresh()


class _Lines:
    def __init__(self) -> None:
        self._last = float("-inf")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def show(self, done: float, text: str) -> None:
        if time.monotonic() - self._last >= _SECONDS:
            self._last = time.monotonic()
            print(f"{done:6.1%}  {text}", file=sys.stderr, flush=True)
