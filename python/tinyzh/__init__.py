"""tinyzh: small Llama-architecture story models, above all Chinese ones.

>>> import tinyzh
>>> model = tinyzh.Model()                      # the built-in story model
>>> for piece in model.generate("从前"):
...     print(piece, end="", flush=True)
"""

from pathlib import Path

from . import _core
from .config import Config
from .errors import (
    BackendError,
    CheckpointError,
    ContextFull,
    FileError,
    FileMissing,
    GenerationError,
    InvalidArgument,
    MissingPackage,
    QueueFull,
    TinyzhError,
    TokenizerError,
)
from .generation import Generation, GenerationStats, TokenLogprob
from .model import Model
from .sampling import SamplingParams
from .scoring import Choice, Score
from .session import Session
from .special import Special
from .stats import EngineStats, Percentiles
from .tokenizer import BinTokenizer, SentencePieceTokenizer, Tokenizer
from .trace import Trace
from .weights import Weights


def get_include() -> str:
    """The folder of ``tinyzh.h``, the C header (docs/embedding.md)."""
    return str(Path(__file__).parent / "include")


def get_library_dir() -> str:
    """The folder of the C library that belongs to it."""
    return str(Path(__file__).parent / "lib")


__version__: str = _core.__version__
#: Changes whenever any bit of any result can change.
numerics_version: int = _core.numerics_version

__all__ = [
    "BackendError",
    "BinTokenizer",
    "CheckpointError",
    "Choice",
    "Config",
    "ContextFull",
    "EngineStats",
    "FileError",
    "FileMissing",
    "Generation",
    "GenerationError",
    "GenerationStats",
    "InvalidArgument",
    "MissingPackage",
    "Model",
    "Percentiles",
    "QueueFull",
    "SamplingParams",
    "Score",
    "SentencePieceTokenizer",
    "Session",
    "Special",
    "TinyzhError",
    "TokenLogprob",
    "Tokenizer",
    "TokenizerError",
    "Trace",
    "Weights",
    "get_include",
    "get_library_dir",
    "numerics_version",
]
