"""Folders as transformers writes them: config.json, weights, tokenizer.

Positions turn neighbouring pairs of a head here, and the pairs of its two halves there: so the rows
of wq and wk change places.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..errors import CheckpointError, TokenizerError
from ..files import not_what_was_wanted, read, size_of
from ..special import BOS, EOS, Special
from ..tokenizer import SentencePieceTokenizer, Tokenizer, find_tokenizer, fitting
from ..weights import Names, Tensor, Told, gather
from .found import Found, checked_defaults, source_of_file
from .header import Header
from .pytorch import open_pickle
from .safetensors import open_safetensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "NAMES",
    "ROTATED",
    "half_split",
    "interleaved",
    "open_folder",
    "read_config",
    "read_json",
]

NAMES = Names(
    outside={"tok_emb": "model.embed_tokens", "rms_final": "model.norm", "wcls": "lm_head"},
    layer="model.layers.{}",
    inside={
        "rms_att": "input_layernorm",
        "wq": "self_attn.q_proj",
        "wk": "self_attn.k_proj",
        "wv": "self_attn.v_proj",
        "wo": "self_attn.o_proj",
        "rms_ffn": "post_attention_layernorm",
        "w1": "mlp.gate_proj",
        "w2": "mlp.down_proj",
        "w3": "mlp.up_proj",
    },
)

ROTATED = ("wq", "wk")  #: whose rows change places
_LIMIT = 100_000_000  # bytes of a JSON file
_PART = re.compile(r"(model|pytorch_model)-\d+-of-\d+(\.safetensors|\.bin)")
_PICKLE = "pytorch_model"  # how the name of PyTorch's weights begins

#: Sampling parameters that generation_config.json and ours have in common.
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


def half_split(rows: NDArray[Any], head_size: int) -> NDArray[Any]:
    """Rows of wq or wk as theirs: of each head first the even ones, then the odd ones."""
    return _regrouped(rows, (-1, head_size // 2, 2))


def interleaved(rows: NDArray[Any], head_size: int) -> NDArray[Any]:
    """The way back: rows of a head's first and second half, one after another."""
    return _regrouped(rows, (-1, 2, head_size // 2))


def _regrouped(rows: NDArray[Any], groups: tuple[int, int, int]) -> NDArray[Any]:
    import numpy as np

    return np.swapaxes(rows.reshape(*groups, rows.shape[-1]), 1, 2).reshape(rows.shape)


# ---- reading ----------------------------------------------------------------------------------


def open_folder(folder: Path) -> Found:
    """Opens a Llama that transformers has saved.

    Raises:
        CheckpointError: no such folder, or a model that this engine cannot compute; it is named.
        FileMissing, FileError: a file of it cannot be read.
        MissingPackage: the weights are a pickle and PyTorch is not installed.
    """
    if not (folder / "config.json").exists():
        raise CheckpointError(f"{folder}: {_what_folder(folder)}")
    raw = read_json(folder / "config.json")
    if "model_type" not in raw and (folder / "model.bin").exists():
        raise CheckpointError(
            f"{folder}: a CTranslate2 model; open the Hugging Face folder that it was made from"
        )
    config = _config(raw, folder / "config.json")
    weights = _weight_files(folder)
    generation = folder / "generation_config.json"
    wishes = read_json(generation) if generation.exists() else {}
    special = _special(folder, wishes, raw, config.vocab_size)
    return Found(
        folder.resolve().name,
        "Hugging Face",
        config,
        lambda told: source_of_file(folder, config, _arrays(config, weights, folder, told)),
        lambda: _tokenizer(folder, config.vocab_size, special),
        defaults=_defaults(wishes, generation),
        special=special,
    )


def read_config(path: Path) -> Config:
    """The shape that a config.json describes.

    Raises:
        CheckpointError: it is none, or of a model that this engine cannot compute; it is named.
        FileMissing, FileError: it cannot be read.
    """
    return _config(read_json(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        CheckpointError: there is none in it.
        FileError: it cannot be read.
    """
    if size_of(path) > _LIMIT:
        raise CheckpointError(f"{path}: has over {_LIMIT:,} bytes, which is no configuration")
    data = read(path)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        own = ("a JSON file", "plain text")
        raise CheckpointError(
            not_what_was_wanted(path, data, "JSON", "download it again", reason=str(error), own=own)
        ) from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: holds no object of names and values; download it again")
    return found


def _what_folder(folder: Path) -> str:
    """What a folder without config.json may be, and what to do."""
    names = {p.name for p in folder.iterdir()}
    if "adapter_config.json" in names:
        return (
            "a PEFT adapter, not a whole model; merge it into its base model "
            "(merge_and_unload) and save that"
        )
    if "model_index.json" in names:
        return "a diffusers pipeline, which makes pictures; tinyzh needs a Llama"
    if "genai_config.json" in names:
        return "an onnxruntime-genai model; open the Hugging Face folder that it was made from"
    if "saved_model.pb" in names:
        return "a TensorFlow model; save the original with transformers' save_pretrained"
    if "params.json" in names:
        return (
            "Meta's original release of a Llama; convert it with transformers' "
            "convert_llama_weights_to_hf.py, or llama2.c's export.py"
        )
    weights = [n for n in sorted(names) if n.endswith(".safetensors") or n.startswith(_PICKLE)]
    if weights:
        return (
            f"holds {weights[0]} and no config.json, without which weights cannot be read: "
            "download that too"
        )
    models = sorted(
        n for n in names if n.endswith((".bin", ".tz", ".gguf")) and not n.startswith("tok")
    )
    if models:
        return (
            "a folder, and no Hugging Face model (no config.json); give one of its files: "
            + ", ".join(models[:5])
        )
    return "a folder without config.json, so no Hugging Face model; give a model's file or folder"


# What a Llama may say in config.json and this engine does not compute: name, the values that mean
# "not used", and what it is in words.
_UNSUPPORTED: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("attention_bias", (False,), "biases in the attention"),
    ("mlp_bias", (False,), "biases in the feed-forward network"),
    ("hidden_act", ("silu", "swish"), "the activation"),
    ("quantization_config", ({},), "weights that another program quantised"),
    ("quantization", ({},), "weights that another program quantised"),
    ("partial_rotary_factor", (1, 1.0), "rotating a part of each head"),
    ("sliding_window", (), "attention through a sliding window"),
    ("num_local_experts", (0, 1), "a mixture of experts"),
)


def _config(raw: Mapping[str, Any], path: Path) -> Config:
    """The shape; every difference from what the engine computes is an error that names it."""
    kind, names = raw.get("model_type"), raw.get("architectures") or []
    header = Header(path, {**raw, "rope_theta": _rope(raw, path)}.get)
    if not isinstance(names, list):
        raise header.refused("architectures", names, "a list of names")
    others = [f"model_type {kind!r:.100}"] if kind != "llama" else []
    others += [f"architecture {name!r:.100}" for name in names if name != "LlamaForCausalLM"]
    if others:
        raise CheckpointError(
            f"{path}: {others[0]}; this engine computes LlamaForCausalLM of model_type 'llama'"
        )
    for name, unused, words in _UNSUPPORTED:
        value = raw.get(name)
        if value is not None and value not in unused:
            raise CheckpointError(
                f"{path}: {name} is {value!r:.100}: {words}, which this engine does not compute"
            )
    heads, dim = header.whole("num_attention_heads"), header.whole("hidden_size")
    size = header.head_size(dim, heads)
    if raw.get("head_dim") not in (None, size):
        raise CheckpointError(
            f"{path}: head_dim is {raw['head_dim']!r:.100}, and this engine needs hidden_size / "
            f"num_attention_heads, {dim} / {heads}"
        )
    return Config(
        dim=dim,
        hidden_dim=header.whole("intermediate_size"),
        n_layers=header.whole("num_hidden_layers"),
        n_heads=heads,
        n_kv_heads=header.whole("num_key_value_heads", heads),
        vocab_size=header.whole("vocab_size"),
        seq_len=header.whole("max_position_embeddings", 2048),
        tied=raw.get("tie_word_embeddings", False) is True,
        norm_eps=header.real("rms_norm_eps", 1e-6),
        rope_theta=header.real("rope_theta", 10000.0),
    )


def _rope(raw: Mapping[str, Any], path: Path) -> Any:
    """rope_theta, which newer versions keep in rope_parameters; scaled positions are refused."""
    theta = raw.get("rope_theta", 10000.0)
    for name in ("rope_scaling", "rope_parameters"):
        rules = raw.get(name) or {}
        if not isinstance(rules, Mapping):
            raise CheckpointError(f"{path}: {name} is {rules!r:.100}: expected an object")
        kind = rules.get("rope_type", rules.get("type", "default"))
        if kind != "default":
            raise CheckpointError(
                f"{path}: {name} is of the type {kind!r}: scaled positions, which this engine "
                "does not compute"
            )
        if (share := rules.get("partial_rotary_factor", 1)) != 1:
            raise CheckpointError(
                f"{path}: partial_rotary_factor is {share!r:.100}: rotating a part of each head, "
                "which this engine does not compute"
            )
        theta = rules.get("rope_theta", theta)
    return theta


Opener = Callable[[Path], Mapping[str, Tensor]]


def _weight_files(folder: Path) -> list[tuple[Path, Opener]]:
    """The files that together hold all tensors, and what opens each."""
    kinds: tuple[tuple[str, Opener], ...] = (
        ("model.safetensors", open_safetensors),
        ("pytorch_model.bin", open_pickle),
    )
    for name, opener in kinds:
        if (folder / name).exists():
            return [(folder / name, opener)]
        index = folder / f"{name}.index.json"
        if index.exists():
            parts = read_json(index).get("weight_map")
            if not isinstance(parts, dict) or not all(map(_is_plain_name, parts.values())):
                raise CheckpointError(f"{index}: its weight_map names no files of this folder")
            return [(folder / part, opener) for part in sorted(set(parts.values()))]
    others = {
        "tf_model.h5": "TensorFlow weights",
        "flax_model.msgpack": "Flax weights",
        "adapter_model.safetensors": "a PEFT adapter (merge it into its base model first)",
        "consolidated.safetensors": "weights under Mistral's names",
        "consolidated.00.pth": "Meta's original weights",
    }
    names = sorted(p.name for p in folder.iterdir())
    held = [f"{n}, {others[n]}" for n in names if n in others]
    held += [n for n in names if n.endswith((".gguf", ".tz"))]
    if part := next(filter(None, map(_PART.fullmatch, names)), None):
        listing = f"{part[1]}{part[2]}.index.json"
        held = [f"{part[0]}, a part of the weights: download {listing} too, which lists the parts"]
    elif not held:
        held = [f"{n}: rename it to {kinds[0][0]}" for n in names if n.endswith(".safetensors")]
    raise CheckpointError(
        f"{folder}: no model.safetensors and no pytorch_model.bin"
        + (f"; it holds {'; '.join(held)}" if held else "; download the whole folder again")
    )


def _is_plain_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and name not in ("", ".", "..")


def _arrays(
    config: Config, files: Iterable[tuple[Path, Opener]], folder: Path, told: Told
) -> dict[str, NDArray[np.float32]]:
    """All tensors in our order and as float32, layers stacked."""
    held: dict[str, Tensor] = {}
    for path, opener in files:
        held.update(opener(path))

    def surplus(name: str) -> bool:
        """The classifier of a tied model once more; what follows from the shape (old versions)."""
        again = config.tied and name == NAMES.of("wcls")
        return again or name.endswith("rotary_emb.inv_freq")

    def changed(name: str, values: NDArray[Any]) -> NDArray[Any]:
        return interleaved(values, config.head_size) if name in ROTATED else values

    return gather(config, NAMES, held, folder, surplus=surplus, changed=changed, told=told)


def _defaults(wishes: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What generation_config.json says about sampling, in our words."""
    found = {n: wishes[n] for n in _SAMPLING if wishes.get(n) is not None}
    if wishes.get("do_sample") is False:
        found["temperature"] = 0.0
    return checked_defaults(path, found)


def _special(
    folder: Path, wishes: Mapping[str, Any], raw: Mapping[str, Any], vocab_size: int
) -> Special:
    """What begins and ends a text: as the generation_config says, else the config."""
    files = (("generation_config.json", wishes), ("config.json", raw))
    headers = [Header(folder / name, values.get) for name, values in files]

    def first(name: str, **limit: int) -> list[int]:
        return next(filter(None, (header.tokens(name, **limit) for header in headers)), [])

    rules = folder / "tokenizer_config.json"
    add_bos = read_json(rules).get("add_bos_token") if rules.exists() else None
    bos = first("bos_token_id", below=vocab_size) or [BOS]
    ends = first("eos_token_id") or [EOS]
    return Special.of(bos[0], *ends, add_bos=add_bos is not False)


def _tokenizer(folder: Path, vocab_size: int, special: Special) -> Tokenizer:
    """tokenizer.model where it fits, tokenizer.json, or what llama2.c calls its tokenizer."""
    model, fast = folder / "tokenizer.model", folder / "tokenizer.json"
    if model.exists():
        tokenizer = SentencePieceTokenizer(model, special=special)
        if tokenizer.vocab_size == vocab_size or not fast.exists():
            return fitting(tokenizer, vocab_size, rounded_up=True)
    if fast.exists():
        from .tokenizer_json import JsonTokenizer

        return fitting(JsonTokenizer(fast, special), vocab_size, rounded_up=True)
    try:
        return find_tokenizer(folder / "model.safetensors", vocab_size, special)
    except TokenizerError:
        raise TokenizerError(
            f"{folder}: holds no tokenizer.model and no tokenizer.json; put one of them there, or "
            "pass tokenizer="
        ) from None
