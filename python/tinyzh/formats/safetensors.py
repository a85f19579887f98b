"""One file of tensors in the safetensors format, read where it lies and written in one go.

The safetensors package is not used: it gives no bfloat16 to NumPy, and wants all tensors in memory
before it writes the first.  The file is a length, a JSON header with type, shape and place of each
tensor, and their bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, FileError
from ..files import not_what_was_wanted, size_of
from ..weights import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["open_safetensors", "write_safetensors"]

_LARGEST_HEADER = 100_000_000  # bytes, as the format's own reader allows
_AGAIN = "the file is damaged or incomplete: download it again"
#: Bytes of a number; more types exist, which are not for weights.
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
          "BOOL": 1, "U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}  # fmt: skip


def open_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name; nothing of them is read before it is asked for.

    Raises:
        CheckpointError: not such a file, or not a whole one.
        FileMissing, FileError: it cannot be read.
    """
    import numpy as np

    empty = size_of(path) == 0  # which cannot be mapped
    try:
        data = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None

    def not_one(reason: str) -> CheckpointError:
        start, wanted, own = data[:4096].tobytes(), "a whole safetensors file", "a safetensors file"
        return CheckpointError(
            not_what_was_wanted(path, start, wanted, "download it again", reason=reason, own=(own,))
        )

    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(_LARGEST_HEADER, len(data) - 8):
        raise not_one(f"{len(data):,} bytes, with a header of {length:,}")
    try:
        header = json.loads(data[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        tensors = {name: _tensor(path, name, header[name], data, 8 + length) for name in header}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise not_one(f"its header makes no sense: {error}") from None
    _check_places(path, tensors.values(), 8 + length, len(data))
    return dict(tensors)


@dataclass(frozen=True)
class _Tensor:
    file: Path
    name: str
    data: NDArray[np.uint8]  #: the whole file
    dtype: str
    shape: tuple[int, ...]
    begin: int  #: from the beginning of the file
    end: int

    def read(self) -> NDArray[np.floating[Any]]:
        """As float16, float32 or float64: a view, or of bfloat16 a float32 copy."""
        import numpy as np

        data = self.data[self.begin : self.end]
        if self.dtype == "BF16":  # the upper half of a float32
            wide = data.view("<u2").astype(np.uint32) << np.uint32(16)
            return np.reshape(wide.view(np.float32), self.shape)
        if self.dtype not in ("F64", "F32", "F16"):
            raise CheckpointError(
                f"{self.file}: {self.name} is of type {self.dtype}; weights of F32, F16 and BF16 "
                "can be read: save the model in one of these"
            )
        return np.reshape(data.view(f"<f{_SIZES[self.dtype]}"), self.shape)


def _tensor(file: Path, name: str, entry: Any, data: NDArray[np.uint8], start: int) -> _Tensor:
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in _SIZES:
        raise ValueError(f"unknown type {dtype!r}")
    if not all(isinstance(n, int) and 0 <= n < 2**60 for n in (*shape, begin, end)):
        raise ValueError(f"shape {shape}, offsets {begin} and {end}")
    return _Tensor(file, name, data, dtype, shape, start + begin, start + end)


def _check_places(path: Path, tensors: Iterable[_Tensor], at: int, size: int) -> None:
    """Whether they lie one behind the other from ``at`` to the file's end."""
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        wanted = _SIZES[tensor.dtype] * math.prod(tensor.shape)
        if tensor.begin != at or tensor.end - tensor.begin != wanted or tensor.end > size:
            raise CheckpointError(
                f"{path}: {tensor.name} of {wanted:,} bytes is said to lie from {tensor.begin:,} "
                f"to {tensor.end:,}, in a file of {size:,}, where {at:,} is next; {_AGAIN}"
            )
        at = tensor.end
    if at != size:
        raise CheckpointError(
            f"{path}: its tensors end at {at:,} and the file at {size:,}; {_AGAIN}"
        )


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    values: Iterable[NDArray[np.floating[Any]]],
) -> None:
    """Writes tensors that are all of one type.

    Args:
        shapes: by name, in the order in which they will lie.
        dtype: float32 or float16.
        values: the tensors in that order and of that type; each is written before the next is
            asked for.
    """
    kind = {"float32": "F32", "float16": "F16"}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers asks for this
    at = 0
    for name, shape in shapes.items():
        end = at + _SIZES[kind] * math.prod(shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that numbers lie at multiples of their size
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in values:
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
