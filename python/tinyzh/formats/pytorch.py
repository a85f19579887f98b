"""pytorch_model.bin: a pickle, so it is left to PyTorch's reader that runs no code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..extras import require
from ..files import not_what_was_wanted, start_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PickleFile"]


class PickleFile:
    """The tensors of one file by name, opened with ``weights_only=True``.

    Raises:
        MissingPackage: PyTorch is not installed.
        CheckpointError: PyTorch does not take it for a file of tensors.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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
        self._tensors: dict[str, Any] = found

    def names(self) -> list[str]:
        """Of all tensors."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of one tensor."""
        return tuple(self._tensors[name].shape)

    def read(self, name: str) -> NDArray[np.floating[Any]]:
        """A tensor as float32."""
        tensor = self._tensors[name]
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"{self.path}: {name} is of type {tensor.dtype}; save the model as float32, "
                "float16 or bfloat16"
            )
        array: NDArray[np.floating[Any]] = tensor.float().numpy()
        return array
