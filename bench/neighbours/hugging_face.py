"""The random checkpoint as a Hugging Face folder, which several neighbours start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..shapes import STORY_93M, random_checkpoint

CONFIG = STORY_93M
WORDS = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(3, CONFIG.vocab_size))]


def tensors() -> dict[str, NDArray[np.float32]]:
    """The matrices of the checkpoint by their names in llama2.c, (layers, rows, cols)."""
    c = CONFIG
    data = np.memmap(random_checkpoint(c), dtype="<f4", mode="r", offset=28)
    shapes = {
        "tok_emb": (c.vocab_size, c.dim),
        "rms_att": (c.n_layers, c.dim),
        "wq": (c.n_layers, c.dim, c.dim),
        "wk": (c.n_layers, c.kv_dim, c.dim),
        "wv": (c.n_layers, c.kv_dim, c.dim),
        "wo": (c.n_layers, c.dim, c.dim),
        "rms_ffn": (c.n_layers, c.dim),
        "w1": (c.n_layers, c.hidden_dim, c.dim),
        "w2": (c.n_layers, c.dim, c.hidden_dim),
        "w3": (c.n_layers, c.hidden_dim, c.dim),
        "rms_final": (c.dim,),
    }
    found, offset = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        found[name] = np.array(data[offset : offset + size]).reshape(shape)
        offset += size
    return found


def folder(cache: Path) -> Path:
    """Config, safetensors and a tokenizer of 3,000 words, made once."""
    target = cache / "hf"
    if (target / "config.json").exists():
        return target
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    c = CONFIG
    config = LlamaConfig(
        hidden_size=c.dim,
        intermediate_size=c.hidden_dim,
        num_hidden_layers=c.n_layers,
        num_attention_heads=c.n_heads,
        num_key_value_heads=c.n_kv_heads,
        vocab_size=c.vocab_size,
        max_position_embeddings=c.seq_len,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(_state(torch), strict=False)
    words = {word: i for i, word in enumerate(WORDS)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    tokenizer.save_pretrained(target)
    model.save_pretrained(target)
    return target


def _state(torch: Any) -> dict[str, Any]:
    ours, state = tensors(), {}
    names = {
        "wq": "self_attn.q_proj",
        "wk": "self_attn.k_proj",
        "wv": "self_attn.v_proj",
        "wo": "self_attn.o_proj",
        "w1": "mlp.gate_proj",
        "w2": "mlp.down_proj",
        "w3": "mlp.up_proj",
        "rms_att": "input_layernorm",
        "rms_ffn": "post_attention_layernorm",
    }
    for layer in range(CONFIG.n_layers):
        for name, theirs in names.items():
            value = ours[name][layer]
            if name in ("wq", "wk"):  # halves of a head are rotated, not neighbours
                heads = value.reshape(-1, CONFIG.head_size // 2, 2, CONFIG.dim)
                value = heads.transpose(0, 2, 1, 3).reshape(value.shape)
            state[f"model.layers.{layer}.{theirs}.weight"] = torch.from_numpy(value.copy())
    state["model.embed_tokens.weight"] = torch.from_numpy(ours["tok_emb"])
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    state["model.norm.weight"] = torch.from_numpy(ours["rms_final"])
    return state
