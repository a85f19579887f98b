"""What can go wrong while training, beside the errors of the package."""

from __future__ import annotations

from ..errors import TinyzhError

__all__ = ["TrainingError"]


class TrainingError(TinyzhError, RuntimeError):
    """A run cannot be started or go on."""
