"""Packages that only some uses need; each group of them is an extra of the package."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import MissingPackage

__all__ = ["require"]


def require(module: str, extra: str = "", what: str = "", *, package: str = "") -> Any:
    """Imports a package of an extra, such as ``require("gguf", "gguf")``.

    Args:
        what: what it is needed for, to begin the message with.
        package: what brings the module, where that is better named than an extra.

    Raises:
        MissingPackage: it is not installed; the message says what brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        remedy = package or f"'tinyzh[{extra}]'"
        raise MissingPackage(
            f"{what}{': ' if what else ''}{package or error.name} is not installed: "
            f"pip install {remedy}",
            name=error.name,
        ) from None
