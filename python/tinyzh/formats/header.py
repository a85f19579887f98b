"""Values of a file's header, checked as they are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import CheckpointError

__all__ = ["Header"]


class Header:
    """Names and values; every method raises CheckpointError with the value that will not do.

    Args:
        where: the file, for messages.
        get: the value of a name; None: it has none.
        prefix: what stands before a name in the file.
    """

    def __init__(self, where: object, get: Callable[[str], Any], prefix: str = "") -> None:
        self.where, self.get, self._prefix = where, get, prefix

    def refused(self, name: str, value: object, expected: str) -> CheckpointError:
        """The error for one value."""
        shown = f"{value!r:.100}" if not isinstance(value, int) or abs(value) < 2**64 else "huge"
        return CheckpointError(
            f"{self.where}: {self._prefix}{name} is {shown}: expected {expected}"
        )

    def _value(self, name: str, default: Any) -> Any:
        value = self.get(self._prefix + name)
        return default if value is None else value

    def whole(self, name: str, default: int | None = None) -> int:
        """A positive integer; None as ``default``: it must be there."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise self.refused(name, value, "a positive integer")
        return value

    def real(self, name: str, default: float) -> float:
        """A number."""
        value = self._value(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or abs(value) > 1e300:
            raise self.refused(name, value, "a number")
        return float(value)

    def tokens(self, name: str, below: int = 2**31) -> list[int]:
        """Token ids: one, several, or none where nothing is said."""
        value = self._value(name, [])
        ids = value if isinstance(value, list) else [value]
        for i in ids:
            if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < below:
                raise self.refused(name, value, f"a token id from 0 to {below - 1}")
        return ids

    def head_size(self, dim: int, heads: int) -> int:
        """Width of one head."""
        if dim % heads or dim // heads % 2:
            raise CheckpointError(
                f"{self.where}: {heads} heads share a width of {dim}: expected an even number for "
                "each"
            )
        return dim // heads
