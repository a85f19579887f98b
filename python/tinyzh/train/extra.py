"""Packages that only training needs."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["require", "track"]

T = TypeVar("T")


def require(module: str) -> Any:
    """Import a package of the ``train`` extra.

    Raises:
        ModuleNotFoundError: it is not installed; the message says what brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'tinyzh[train]'", name=error.name
        ) from None


def track(
    items: Iterable[T], description: str, *, unit: str, total: int | None = None, show: bool = True
) -> Iterator[T]:
    """The items, with a progress bar on standard error if ``show``."""
    if not show:
        yield from items
        return
    tqdm = require("tqdm").tqdm
    yield from tqdm(items, desc=description, total=total, unit=f" {unit}", dynamic_ncols=True)
