"""Packages that only training needs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .. import extras

__all__ = ["counted", "missing_named", "require", "track"]

T = TypeVar("T")


def require(module: str) -> Any:
    """Imports a package of the ``train`` extra; MissingPackage says what brings it."""
    return extras.require(module, "train")


@contextmanager
def missing_named() -> Iterator[None]:
    """The same for whatever the block imports, such as parts of tinyzh.train that need PyTorch."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "tinyzh":
            raise
        require(error.name)
        raise


def track(
    items: Iterable[T], description: str, *, unit: str, total: int | None = None, show: bool = True
) -> Iterator[T]:
    """The items, with a progress bar if ``show`` and standard error is a terminal."""
    if not show or not sys.stderr.isatty():
        yield from items
        return
    tqdm = require("tqdm").tqdm
    yield from tqdm(items, desc=description, total=total, unit=f" {unit}", dynamic_ncols=True)


def counted(count: int, one: str, many: str = "") -> str:
    """``1 file``, ``2 files``; ``many`` is for words that take more than an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
