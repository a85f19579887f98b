"""Writing folders that transformers opens; ``huggingface`` is the way back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..atomic import replacing_folder
from ..config import Config
from ..special import LLAMA2C, Special
from ..weights import Told, as_float16, each, nothing
from .huggingface import NAMES, ROTATED, half_split
from .pieces import UNKNOWN, Pieces
from .safetensors import write_safetensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["is_of_a_model", "write_folder"]


def write_folder(
    folder: Path,
    config: Config,
    weights: Mapping[str, NDArray[np.float32]],
    pieces: Pieces | None,
    dtype: str = "float32",
    told: Told = nothing,
    *,
    special: Special = LLAMA2C,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> list[Path]:
    """Writes what transformers opens as a LlamaForCausalLM; returns the files.

    Args:
        folder: made if it is not there; its files are replaced when all new ones are whole, and
            those of another model go.
        weights: by the names of ``Model.weights``.
        pieces: the tokenizer; None: the folder gets none.
        dtype: float32 or float16.
        told: told the weights that have been written, and how many there are.
        special: what begins and ends a text.
        defaults: sampling parameters that the model asks for, in the words of SamplingParams.

    Raises:
        MissingPackage: protobuf is not installed, which tokenizer.model needs.
        InvalidArgument: a weight that float16 cannot hold.
        FileError: it cannot be written.
    """
    files: dict[str, bytes] = {
        name: _as_json(content)
        for name, content in _texts(config, dtype, pieces, special, defaults).items()
    }
    if pieces is not None:
        files["tokenizer.model"] = pieces.model()

    def tensors() -> Iterator[NDArray[Any]]:
        done = 0
        for name, _ in each(config):
            told(done, total)
            rows = weights[name]
            if name.endswith(ROTATED):
                rows = half_split(rows, config.head_size)
            yield as_float16(name, rows) if dtype == "float16" else rows
            done += rows.size

    shapes = {NAMES.of(name): shape for name, shape in each(config)}
    total = sum(map(math.prod, shapes.values()))
    with replacing_folder(folder, is_of_a_model) as part:
        write_safetensors(part / "model.safetensors", shapes, dtype, tensors())
        for name, data in files.items():
            (part / name).write_bytes(data)
    told(total, total)
    return [folder / name for name in ("model.safetensors", *files)]


#: The files of a folder from which a model is read.
_OF_A_MODEL = re.compile(
    r"(generation_|tokenizer_)?config\.json|tokenizer\.(model|json|bin)|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.json|merges\.txt"
    r"|(model(-\d+-of-\d+)?\.safetensors|pytorch_model(-\d+-of-\d+)?\.bin)(\.index\.json)?"
)


def is_of_a_model(name: str) -> bool:
    """Whether a file of this name is read as a part of the folder's model."""
    return _OF_A_MODEL.fullmatch(name) is not None


def _as_json(content: dict[str, Any]) -> bytes:
    indent = None if len(content) > 20 else 2
    return (json.dumps(content, ensure_ascii=False, indent=indent) + "\n").encode()


def _texts(
    config: Config,
    dtype: str,
    pieces: Pieces | None,
    special: Special,
    defaults: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """The folder's JSON files by name."""
    texts: dict[str, dict[str, Any]] = {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": config.dim,
            "intermediate_size": config.hidden_dim,
            "num_hidden_layers": config.n_layers,
            "num_attention_heads": config.n_heads,
            "num_key_value_heads": config.n_kv_heads,
            "head_dim": config.head_size,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.seq_len,
            "rms_norm_eps": config.norm_eps,
            "rope_theta": config.rope_theta,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": config.tied,
            "bos_token_id": special.bos,
            "eos_token_id": special.eos,
            "torch_dtype": dtype,
        },
        "generation_config.json": {
            "bos_token_id": special.bos,
            "eos_token_id": list(special.ends),
            "pad_token_id": special.eos,
            **_settings(defaults),
        },
    }
    if pieces is not None:
        texts["tokenizer_config.json"] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": _text_of(pieces, special.bos),
            "eos_token": _text_of(pieces, special.eos),
            "unk_token": next(
                (t for t, k in zip(pieces.texts, pieces.types, strict=True) if k == UNKNOWN), None
            ),
            "pad_token": _text_of(pieces, special.eos),
            "add_bos_token": special.add_bos,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config.seq_len,
        }
        texts["tokenizer.json"] = pieces.json(special)
    return texts


def _settings(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling parameters in transformers' words; tinyzh's own where the model asks for none."""
    asked = {"temperature": 0.9, "top_p": 0.9, **defaults}
    greedy = asked["temperature"] == 0
    if greedy:
        del asked["temperature"]
    return {"do_sample": not greedy, **asked}


def _text_of(pieces: Pieces, token: int) -> str | None:
    """How a token is written; None: the vocabulary was rounded up, and it has no piece."""
    return pieces.texts[token] if token < len(pieces.texts) else None
