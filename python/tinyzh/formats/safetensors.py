"""One file of tensors in the safetensors format, read where it lies.

The safetensors package is not used for reading, because it gives no bfloat16 to NumPy.  The file
is a length, a JSON header with type, shape and place of each tensor, and their bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, FileError
from ..files import not_what_was_wanted, size_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SafetensorsFile"]

_LARGEST_HEADER = 100_000_000  # bytes, as the format's own reader allows
_AGAIN = "the file is damaged or incomplete: download it again"
#: Bytes of a number; more types exist, which are not for weights.
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
          "BOOL": 1, "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    begin: int  # from the beginning of the file
    end: int


class SafetensorsFile:
    """The tensors of one file by name; nothing of them is read before it is asked for.

    Raises:
        CheckpointError: not such a file, or not a whole one.
        FileMissing, FileError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import numpy as np

        self.path = path
        empty = size_of(path) == 0  # which cannot be mapped
        try:
            self._bytes = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}") from None
        self._entries = self._parsed()

    def _parsed(self) -> dict[str, _Entry]:
        data, name = self._bytes, self.path
        length = int.from_bytes(data[:8].tobytes(), "little")
        if length > min(_LARGEST_HEADER, len(data) - 8):
            raise self._not_one(f"{len(data):,} bytes, with a header of {length:,}")
        try:
            header = json.loads(data[8 : 8 + length].tobytes())
            header.pop("__metadata__", None)
            entries = {key: _entry(value, 8 + length) for key, value in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._not_one(f"its header makes no sense: {error}") from None
        at = 8 + length
        for key, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
            wanted = _SIZES[entry.dtype] * math.prod(entry.shape)
            if entry.begin != at or entry.end - entry.begin != wanted or entry.end > len(data):
                raise CheckpointError(
                    f"{name}: {key} of {wanted:,} bytes is said to lie from {entry.begin:,} to "
                    f"{entry.end:,}, in a file of {len(data):,}, where {at:,} is next; {_AGAIN}"
                )
            at = entry.end
        if at != len(data):
            raise CheckpointError(
                f"{name}: its tensors end at {at:,} and the file at {len(data):,}; {_AGAIN}"
            )
        return entries

    def _not_one(self, reason: str) -> CheckpointError:
        start, wanted = self._bytes[:4096].tobytes(), "a whole safetensors file"
        own = ("a safetensors file",)
        return CheckpointError(
            not_what_was_wanted(
                self.path, start, wanted, "download it again", reason=reason, own=own
            )
        )

    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return self._entries[name].shape

    def read(self, name: str) -> NDArray[np.floating[Any]]:
        """A tensor as float16, float32 or float64: a view, or of bfloat16 a float32 copy."""
        import numpy as np

        entry = self._entries[name]
        data = self._bytes[entry.begin : entry.end]
        if entry.dtype == "BF16":  # the upper half of a float32
            wide = data.view("<u2").astype(np.uint32) << np.uint32(16)
            return np.reshape(wide.view(np.float32), entry.shape)
        if entry.dtype not in ("F64", "F32", "F16"):
            raise CheckpointError(
                f"{self.path}: {name} is of type {entry.dtype}; weights of F32, F16 and BF16 can "
                "be read: save the model in one of these"
            )
        return np.reshape(data.view(f"<f{_SIZES[entry.dtype]}"), entry.shape)


def _entry(value: Any, start: int) -> _Entry:
    dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
    if dtype not in _SIZES:
        raise ValueError(f"unknown type {dtype!r}")
    if not all(isinstance(n, int) and 0 <= n < 2**60 for n in (*shape, begin, end)):
        raise ValueError(f"shape {shape}, offsets {begin} and {end}")
    return _Entry(dtype, shape, start + begin, start + end)
