"""A model's weights as llama2.c's .bin files."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from .. import _core
from ..config import Config
from .atomic import replacing
from .model import Llama

__all__ = ["Format", "write_bin"]

Format = Literal["v0", "v1", "v2"]

#: The tensors of v0 in their order, and where a layer has its part of each.
_LAYER_TENSORS = (
    "rms_att",
    "attention.wq",
    "attention.wk",
    "attention.wv",
    "attention.wo",
    "rms_ffn",
    "feed_forward.w1",
    "feed_forward.w2",
    "feed_forward.w3",
)


def write_bin(model: Llama, path: Path, format: Format = "v0", group_size: int = 0) -> None:
    """Writes a checkpoint; ``group_size`` is v2's, 0 means 64 or what divides ``dim``."""
    if format == "v0":
        with replacing(path) as part:
            _write_v0(model.config, dict(model.named_parameters()), part)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder, "v0.bin")
        _write_v0(model.config, dict(model.named_parameters()), plain)
        _core.convert(str(plain), str(path), format, group_size, None)


def _write_v0(config: Config, weights: Mapping[str, Tensor], path: Path) -> None:
    names = ["tok_emb"]
    names += [f"layers.{i}.{tensor}" for tensor in _LAYER_TENSORS for i in range(config.n_layers)]
    names += ["rms_final"]
    with path.open("wb") as file:
        file.write(
            struct.pack(
                "<7i",
                config.dim,
                config.hidden_dim,
                config.n_layers,
                config.n_heads,
                config.n_kv_heads,
                config.vocab_size if config.tied else -config.vocab_size,
                config.seq_len,
            )
        )
        for name in names:
            file.write(_bytes(weights[f"{name}.weight"]))
        file.write(bytes(4 * config.seq_len * config.head_size))  # two tables that nobody reads
        if not config.tied:
            file.write(_bytes(weights["wcls.weight"]))


def _bytes(weight: Tensor) -> bytes:
    data: bytes = weight.detach().float().cpu().numpy().astype("<f4").tobytes()
    return data
