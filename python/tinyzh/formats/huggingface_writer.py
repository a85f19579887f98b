"""Writing folders that transformers opens; ``huggingface`` is the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..atomic import replacing
from ..config import Config
from ..errors import InvalidArgument
from ..extras import require
from ..special import LLAMA2C, Special
from .huggingface import NAMES, ROTATED, half_split
from .pieces import UNKNOWN, Pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["write_folder"]


def write_folder(
    folder: Path,
    config: Config,
    weights: Mapping[str, NDArray[np.float32]],
    pieces: Pieces | None,
    dtype: str = "float32",
    progress: Callable[[int, int], object] = lambda done, total: None,
    *,
    special: Special = LLAMA2C,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> list[Path]:
    """Writes what transformers opens as a LlamaForCausalLM; returns the files.

    Args:
        folder: made if it is not there; its files are replaced when all of them are whole.
        weights: by the names of ``Model.weights``.
        pieces: the tokenizer; None: the folder gets none.
        dtype: float32 or float16.
        progress: told the tensors done and their number.
        special: what begins and ends a text.
        defaults: sampling parameters that the model asks for, in the words of SamplingParams.

    Raises:
        MissingPackage: safetensors is not installed.
        InvalidArgument: a weight that float16 cannot hold.
    """
    import numpy as np

    save_file = require("safetensors.numpy", "hub", "writing a Hugging Face folder").save_file
    tensors = {}
    for done, (name, array) in enumerate(weights.items()):
        progress(done, len(weights))
        tensor = name.rpartition(".")[2]
        rows = half_split(array, config.head_size) if tensor in ROTATED else array
        with np.errstate(over="ignore"):
            narrow = np.ascontiguousarray(rows, dtype)
        if not np.isfinite(narrow).all() and np.isfinite(rows).all():
            raise InvalidArgument(
                f"{name} has a weight of {np.abs(rows).max():g}, and float16 ends at 65504: "
                "take dtype float32"
            )
        tensors[NAMES.of(name)] = narrow
    texts = _texts(config, dtype, pieces, special, defaults)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.safetensors") as part:
        part.touch()  # for its mode: the library makes files that only their owner may read
        mode = part.stat().st_mode
        save_file(tensors, part, metadata={"format": "pt"})
        part.chmod(mode)
    for name, content in texts.items():
        with replacing(folder / name) as part:
            text = json.dumps(content, ensure_ascii=False, indent=None if len(content) > 20 else 2)
            part.write_text(text + "\n", encoding="utf-8")
    if pieces is not None:
        with replacing(folder / "tokenizer.model") as part:
            part.write_bytes(pieces.model())
        texts["tokenizer.model"] = {}
    progress(len(weights), len(weights))
    return [folder / name for name in ("model.safetensors", *texts)]


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
