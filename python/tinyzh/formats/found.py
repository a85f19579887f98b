"""What a path holds: the one place that tells the kinds of models apart."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core
from ..config import Config
from ..errors import CheckpointError, FileMissing, InvalidArgument
from ..files import is_folder, start_of
from ..sampling import SamplingParams
from ..special import Special
from ..tokenizer import Tokenizer, find_tokenizer
from ..weights import Told

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: owner/name, perhaps with :file, and not the path of a kind of file that is opened.
_ON_THE_HUB = re.compile(
    r"[\w-][\w.-]*/[\w.-]+(?<!\.bin)(?<!\.tz)(?<!\.gguf)(?<!\.safetensors)(:.+)?", re.ASCII
)

__all__ = [
    "Found",
    "checked_defaults",
    "may_be_on_the_hub",
    "of_source",
    "open_path",
    "source_of",
    "source_of_file",
]


@dataclass(frozen=True)
class Found:
    """A model that was found; its weights are not read yet."""

    name: str  #: for people
    format: str  #: in words: ``llama2.c v0``, ``Hugging Face``, ``GGUF``
    config: Config
    load: Callable[[Told], _core.Source]  #: reads the weights
    tokenizer: Callable[[], Tokenizer]  #: opens the one that belongs to it; TokenizerError
    defaults: Mapping[str, Any] = field(default_factory=dict)  #: sampling parameters it asks for
    special: Special | None = None  #: what begins and ends a text; None: it does not say


def open_path(path: str | os.PathLike[str]) -> Found:
    """Opens a llama2.c or tz file, a Hugging Face folder, or a GGUF file; told apart by content.

    Raises:
        FileMissing, FileError: it is not there or cannot be read.
        CheckpointError: it is none of these; the message says what it is and what to do.
        MissingPackage: reading it needs a package that is not installed.
    """
    if _is_folder(path):
        from .huggingface import open_folder

        return open_folder(Path(path))
    path = Path(path)
    start = start_of(path)
    if start.startswith(b"GGUF"):
        from .gguf import open_gguf

        return open_gguf(path)
    if _belongs_to_folder(path, start):
        from .huggingface import open_folder

        if not (path.parent / "config.json").exists():
            raise CheckpointError(
                f"{path}: weights of a Hugging Face model, whose config.json is not beside them; "
                "download the whole folder (tinyzh pull NAME) and give that"
            )
        return open_folder(path.parent)
    return of_source(
        path.name,
        _core.Source(os.fsencode(path)),
        lambda vocab_size: find_tokenizer(path, vocab_size),
    )


def of_source(name: str, source: _core.Source, tokenizer: Callable[[int], Tokenizer]) -> Found:
    """What the core has opened; ``tokenizer`` is given the vocabulary's size."""
    config = Config.from_checkpoint(source.checkpoint)
    return Found(
        name,
        source.checkpoint["format"],
        config,
        lambda told: source,
        lambda: tokenizer(config.vocab_size),
    )


def may_be_on_the_hub(name: str) -> bool:
    """Whether it has the form of a model's name there, and not that of a path."""
    return _ON_THE_HUB.fullmatch(name) is not None


def _is_folder(path: str | os.PathLike[str]) -> bool:
    """As ``is_folder``; what may be the name of a model on the hub is told where those are."""
    try:
        return is_folder(path)
    except FileMissing as error:
        name = os.fspath(path)
        if name.startswith(("http://", "https://")):
            raise FileMissing(
                f"{name}: an address, and no file; download it first (a model of the Hugging Face "
                "hub by its name: tinyzh pull OWNER/NAME)"
            ) from None
        if may_be_on_the_hub(name) and not os.path.isdir(os.path.dirname(name)):
            raise FileMissing(
                f"{error}; if it is a model of the Hugging Face hub, get it with "
                f"tinyzh pull {name}, or open it with Model.from_pretrained"
            ) from None
        raise


def _belongs_to_folder(path: Path, start: bytes) -> bool:
    """Whether it is the file of a Hugging Face folder that has the weights."""
    name = path.name
    if name in ("config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json"):
        return True
    if start[8:10] == b'{"':
        return name.startswith("model")  # an adapter, say, has another name
    return name.startswith("pytorch_model") and start[:2] in (b"PK", b"\x80\x02")


def checked_defaults(where: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Sampling parameters that a file asks for; CheckpointError: a value out of its range."""
    try:
        SamplingParams(**found)
    except InvalidArgument as error:
        raise CheckpointError(f"{where}: {error}") from None
    return found


def source_of(config: Config, arrays: Mapping[str, NDArray[np.float32]]) -> _core.Source:
    """Arrays as ``weights.shapes`` names them, used in place.

    Raises:
        InvalidArgument: a shape that no model has; an array that does not fit it.
    """
    return _core.Source.from_arrays(asdict(config), dict(arrays))


def source_of_file(
    where: Path, config: Config, arrays: Mapping[str, NDArray[np.float32]]
) -> _core.Source:
    """The same of arrays that a file holds, which is then what is wrong: CheckpointError."""
    try:
        return source_of(config, arrays)
    except InvalidArgument as error:
        raise CheckpointError(f"{where}: {error}") from None
