"""Everything that can go wrong, as one tree.

::

    TinyzhError
    ├── CheckpointError (ValueError)     not a checkpoint, wrong version, truncated, sizes disagree
    ├── TokenizerError (ValueError)      missing, corrupt, does not match the model
    ├── GenerationError (RuntimeError)   the model's numbers are not numbers; the model is closed
    │   ├── ContextFull                  the prompt does not fit the context
    │   └── QueueFull                    too many requests are waiting
    ├── BackendError (RuntimeError)      unknown instruction set, device not available
    ├── MissingPackage (ImportError)     an optional package that is not installed
    ├── InvalidArgument (ValueError)     a parameter out of its range
    └── FileError (OSError)              a file cannot be opened, read or written
        └── FileMissing (FileNotFoundError)
"""

from __future__ import annotations

__all__ = [
    "BackendError",
    "CheckpointError",
    "ContextFull",
    "FileError",
    "FileMissing",
    "GenerationError",
    "InvalidArgument",
    "MissingPackage",
    "QueueFull",
    "TinyzhError",
    "TokenizerError",
]


class TinyzhError(Exception):
    """Base of every error that tinyzh raises on purpose."""


class CheckpointError(TinyzhError, ValueError):
    """A file is not a checkpoint, or not a whole one."""


class TokenizerError(TinyzhError, ValueError):
    """A tokenizer is missing, corrupt, or does not match the model."""


class GenerationError(TinyzhError, RuntimeError):
    """A generation cannot be started or go on."""


class ContextFull(GenerationError):
    """The prompt has more tokens than the model's context."""


class QueueFull(GenerationError):
    """As many requests are waiting as ``queue_limit`` allows."""


class BackendError(TinyzhError, RuntimeError):
    """An instruction set or a device that is unknown, not built or not there."""


class MissingPackage(TinyzhError, ImportError):
    """An optional package is not installed; the message says what brings it."""


class InvalidArgument(TinyzhError, ValueError):
    """A parameter is out of its range."""


class FileError(TinyzhError, OSError):
    """A file cannot be opened, read or written."""


class FileMissing(FileError, FileNotFoundError):
    """A file is not there."""
