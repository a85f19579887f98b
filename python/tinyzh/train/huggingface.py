"""A model as a Hugging Face folder, which transformers opens as a Llama.

Our RoPE turns neighbouring pairs of a head, theirs the pairs of its two halves: the rows of wq and
wk change places accordingly.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import Config
from ..errors import FileMissing
from ..tokenizer import BOS, EOS
from .atomic import replacing
from .extra import require
from .model import Llama

__all__ = ["half_split", "hugging_face_weights", "write_folder"]

_LAYER_NAMES = {
    "rms_att": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "rms_ffn": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
}


def half_split(weight: Tensor, head_size: int) -> Tensor:
    """Rows of wq or wk: of each head first the even ones, then the odd ones."""
    pairs = weight.unflatten(0, (-1, head_size // 2, 2))  # (heads, S / 2, 2, D)
    return pairs.transpose(1, 2).reshape(weight.shape).contiguous()


def hugging_face_weights(model: Llama) -> dict[str, Tensor]:
    """All weights by their names in transformers."""
    ours = {
        n.removesuffix(".weight"): p.detach().float().cpu() for n, p in model.named_parameters()
    }
    theirs = {
        "model.embed_tokens.weight": ours["tok_emb"],
        "model.norm.weight": ours["rms_final"],
    }
    if not model.config.tied:
        theirs["lm_head.weight"] = ours["wcls"]
    for i in range(model.config.n_layers):
        for name, their_name in _LAYER_NAMES.items():
            weight = ours[f"layers.{i}.{name}"]
            if name in ("attention.wq", "attention.wk"):
                weight = half_split(weight, model.config.head_size)
            theirs[f"model.layers.{i}.{their_name}.weight"] = weight
    return {name: weight.contiguous() for name, weight in theirs.items()}


def write_folder(model: Llama, tokenizer: Path, folder: Path) -> list[Path]:
    """Writes weights, configuration and tokenizer; returns the files."""
    if not tokenizer.exists():
        raise FileMissing(
            f"{tokenizer}: no such file; a Hugging Face folder needs the SentencePiece model: "
            "name its folder with --tokenizer"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.safetensors") as part:
        require("safetensors.torch").save_file(
            hugging_face_weights(model), part, metadata={"format": "pt"}
        )
    texts = {
        "config.json": _config(model.config),
        "generation_config.json": {
            "bos_token_id": BOS,
            "eos_token_id": [BOS, EOS],  # the next story's beginning is this one's end
            "pad_token_id": EOS,
            "do_sample": True,
            "temperature": 0.9,
            "max_new_tokens": 256,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "</s>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": model.config.seq_len,
        },
        "tokenizer.json": fast_tokenizer(tokenizer),
    }
    for name, content in texts.items():
        with replacing(folder / name) as part:
            text = json.dumps(content, ensure_ascii=False, indent=None if len(content) > 20 else 2)
            part.write_text(text + "\n", encoding="utf-8")
    with replacing(folder / "tokenizer.model") as part:
        part.write_bytes(tokenizer.read_bytes())
    return [folder / name for name in ("model.safetensors", *texts, "tokenizer.model")]


def _config(config: Config) -> dict[str, Any]:
    return {
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
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "float32",
    }


def fast_tokenizer(path: Path) -> dict[str, Any]:
    """tokenizer.json: the SentencePiece model in the words of the tokenizers library.

    A merge of two pieces is one that the vocabulary has whole; better scores come first.
    """
    sp = require("sentencepiece").SentencePieceProcessor(model_file=str(path))
    rules = _normaliser(path)
    pieces = [sp.id_to_piece(i) for i in range(sp.vocab_size())]
    ids = {piece: i for i, piece in enumerate(pieces)}
    ordinary = [
        i for i in range(len(pieces)) if not (sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i))
    ]
    merges = []
    for i in ordinary:
        piece = pieces[i]
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                merges.append((-sp.get_score(i), ids[left], ids[right], [left, right]))
    merges.sort(key=lambda merge: merge[:3])
    special = [i for i in range(len(pieces)) if sp.is_control(i) or sp.is_unknown(i)]
    spaces: list[dict[str, Any]] = []
    if rules.precompiled_charsmap:
        charsmap = base64.b64encode(rules.precompiled_charsmap).decode()
        spaces.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if rules.remove_extra_whitespaces:
        spaces.append({"type": "Strip", "strip_left": True, "strip_right": True})
        spaces.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if rules.add_dummy_prefix:
        spaces.append({"type": "Prepend", "prepend": "▁"})
    spaces.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if rules.add_dummy_prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": pieces[i],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i in special
        ],
        "normalizer": {"type": "Sequence", "normalizers": spaces},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": "<s>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<s>", "type_id": 1}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [BOS], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": any(sp.is_byte(i) for i in range(len(pieces))),
            "ignore_merges": False,
            "vocab": ids,
            "merges": [merge[3] for merge in merges],
        },
    }


def _normaliser(path: Path) -> Any:
    """What a SentencePiece model does to a text first."""
    proto = require("sentencepiece.sentencepiece_model_pb2").ModelProto()
    proto.ParseFromString(path.read_bytes())
    return proto.normalizer_spec
