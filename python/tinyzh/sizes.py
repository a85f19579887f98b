"""Amounts of memory, as people write them."""

from __future__ import annotations

import re
from numbers import Integral

from .errors import InvalidArgument

__all__ = ["parse_bytes"]

_UNITS = {"": 1, "b": 1} | {
    unit: base**power
    for power, letter in enumerate("kmgt", 1)
    for unit, base in ((f"{letter}ib", 1024), (f"{letter}b", 1000), (letter, 1024))
}


def parse_bytes(name: str, value: object) -> int:
    """Bytes, of a number or of a text: ``512MiB`` and ``64k`` (of 1024), ``1.5GB`` (of 1000).

    Raises:
        InvalidArgument: it is neither, or not from 1 byte to an exbibyte.
    """
    size: float = 0
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
        if match and match[2].lower() in _UNITS:
            size = float(match[1]) * _UNITS[match[2].lower()]
    elif isinstance(value, Integral) and not isinstance(value, bool):
        size = int(value)
    if not 1 <= size <= 2**60:
        raise InvalidArgument(
            f"{name} is {value!r:.100}: expected a number of bytes, or a text such as '512MiB'"
        )
    return int(size)
