"""How far a run is, for people: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .extra import require
from .loop import Progress

__all__ = ["shown"]

_SECONDS = 30  # between two lines


@contextmanager
def shown(start: float = 0.0) -> Iterator[Progress]:
    """Something to tell progress to, which goes to standard error; ``start`` is what was done."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    bar = require("tqdm").tqdm(
        total=1.0,
        initial=start,
        dynamic_ncols=True,
        bar_format="{percentage:5.1f}% |{bar}| {elapsed}<{remaining} {desc}",
    )

    def show(done: float, text: str) -> None:
        bar.set_description_str(text, refresh=False)
        bar.update(min(done, 1.0) - bar.n)

    with bar:
        yield show


def _lines() -> Progress:
    last = float("-inf")

    def show(done: float, text: str) -> None:
        nonlocal last
        if done >= 1 or time.monotonic() - last >= _SECONDS:
            last = time.monotonic()
            print(f"{done:6.1%}  {text}", file=sys.stderr, flush=True)

    return show
