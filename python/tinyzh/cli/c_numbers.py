"""Numbers as C reads them from a command line: ``atoi`` and ``atof``, stored in int and float."""

from __future__ import annotations

import re
import struct

__all__ = ["c_float", "c_int"]

_SPACE = r"[ \t\n\v\f\r]*"
_INTEGER = re.compile(_SPACE + r"([+-]?[0-9]+)")
_FLOAT = re.compile(
    _SPACE
    + r"(?:(?P<hex>[+-]?0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?[0-9]+)?)"
    + r"|(?P<other>[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)))",
    re.IGNORECASE,
)


def c_int(text: str) -> int:
    """``(int)atoi(text)`` on a machine whose long has 64 bits: the number the text begins with."""
    found = _INTEGER.match(text)
    if not found:
        return 0
    value = min(max(int(found[1]), -(2**63)), 2**63 - 1) & 0xFFFFFFFF
    return value - 2**32 if value >= 2**31 else value


def c_float(text: str) -> float:
    """``(float)atof(text)``: the number the text begins with, rounded to 32 bits; else 0."""
    found = _FLOAT.match(text)
    if not found:
        return 0.0
    try:
        value = float.fromhex(found["hex"]) if found["hex"] else float(found["other"])
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("-inf") if found[0].strip().startswith("-") else float("inf")
