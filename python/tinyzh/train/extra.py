"""Packages that only training needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from .. import extras

__all__ = ["require", "track"]

T = TypeVar("T")


def require(module: str) -> Any:
    """Imports a package of the ``train`` extra; MissingPackage says what brings it."""
    return extras.require(module, "train")


def track(
    items: Iterable[T], description: str, *, unit: str, total: int | None = None, show: bool = True
) -> Iterator[T]:
    """The items, with a progress bar on standard error if ``show``."""
    if not show:
        yield from items
        return
    tqdm = require("tqdm").tqdm
    yield from tqdm(items, desc=description, total=total, unit=f" {unit}", dynamic_ncols=True)
