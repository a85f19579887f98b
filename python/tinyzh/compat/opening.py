"""What ``from_pretrained`` is given: a place, and arguments of which transformers has many."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InvalidArgument
from ..files import is_folder
from ..formats.found import may_be_on_the_hub
from ..model import Model

__all__ = ["MODEL_OPTIONS", "as_dtype", "located", "sorted_out"]

#: Arguments of Model.
MODEL_OPTIONS = tuple(
    name
    for name, parameter in inspect.signature(Model).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
)
_HUB = ("file", "revision", "cache_dir", "token", "local_files_only")
_ANY = (None, True, False)
#: Arguments of transformers that are taken, since with these values they change nothing here.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "device_map": (None, "auto", "cpu", {"": "cpu"}),
    "trust_remote_code": _ANY,
    "low_cpu_mem_usage": _ANY,
    "use_safetensors": _ANY,
    "attn_implementation": (None, "eager", "sdpa", "flash_attention_2"),
    "force_download": (None, False),
    "resume_download": _ANY,
    "output_loading_info": (None, False),
    "load_in_8bit": (None, False),
    "load_in_4bit": (None, False),
    "quantization_config": (None,),
    "config": (None,),
    "variant": (None,),
    "subfolder": (None, ""),
    "use_fast": _ANY,
    "legacy": _ANY,
    "clean_up_tokenization_spaces": (None, False),
}
#: Precisions of transformers that are computed as what they are kept in, which is more.
_HALF = ("auto", "float16", "bfloat16", "half")


def sorted_out(
    options: Mapping[str, Any], known: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments that are known, and those for the hub.

    Raises:
        InvalidArgument: one is neither, and not one of transformers' that changes nothing.
    """
    own, hub = {}, {}
    for name, value in options.items():
        if name in _HUB:
            hub[name] = value
        elif name in known:
            own[name] = value
        elif not any(value is other or value == other for other in _NEUTRAL.get(name, ())):
            raise InvalidArgument(
                f"{name}={value!r:.100} is nothing that from_pretrained does here; it takes "
                f"{', '.join((*known, *_HUB))}"
            )
    return own, hub


def as_dtype(value: Any) -> Any:
    """transformers' name of a precision, or PyTorch's object, in the words of Model."""
    name = str(value).removeprefix("torch.")
    if value is None or name in _HALF:
        return "auto"
    return "float32" if name in ("float32", "float") else value


def located(path: str | os.PathLike[str], **hub: Any) -> Path:
    """A path that is there, or where a model of the hub is once it is downloaded.

    Raises:
        FileMissing, FileError: it is no path, and cannot be a name on the hub.
    """
    if not os.path.exists(path) and may_be_on_the_hub(os.fspath(path)):
        from ..hub import pull

        return pull(os.fspath(path), **hub)
    is_folder(path)
    return Path(path)
