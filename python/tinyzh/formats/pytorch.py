"""pytorch_model.bin: a pickle, so it is left to PyTorch's reader that runs no code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..extras import require
from ..files import not_what_was_wanted, start_of
from ..weights import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["open_pickle"]


def open_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name, opened with ``weights_only=True``.

    Raises:
        MissingPackage: PyTorch is not installed.
        CheckpointError: PyTorch does not take it for a file of tensors.
        FileMissing, FileError: it cannot be read.
    """
    start = start_of(path)
    if not start.startswith((b"PK", b"\x80")):
        remedy = "download it again, or take the model's safetensors"
        raise CheckpointError(not_what_was_wanted(path, start, "PyTorch's weights", remedy))
    what = f"{path} is a pickle, which only PyTorch is let to read"
    torch = require("torch", what=what, package="torch")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or dangerous pickle leads to
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path}: PyTorch refuses it as a file of tensors ({reason:.200}); take the "
            "model's safetensors, or save it again with torch.save(model.state_dict(), …)"
        ) from None
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise CheckpointError(f"{path}: holds other things than tensors by name")
    return {name: _Tensor(path, name, tensor) for name, tensor in found.items()}


@dataclass(frozen=True)
class _Tensor:
    file: Path
    name: str
    tensor: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def read(self) -> NDArray[np.floating[Any]]:
        """As float32."""
        if not self.tensor.is_floating_point():
            raise CheckpointError(
                f"{self.file}: {self.name} is of type {self.tensor.dtype}; save the model as "
                "float32, float16 or bfloat16"
            )
        array: NDArray[np.floating[Any]] = self.tensor.float().numpy()
        return array
