"""A model's weights as llama2.c's .bin files."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .. import _core
from ..config import Config
from .atomic import replacing
from .model import Llama

__all__ = ["Format", "read_bin", "stacked", "write_bin"]

Format = Literal["v0", "v1", "v2"]

#: The tensors of v0 that each layer has, in the order of the file: its name and the model's.
_LAYER_TENSORS = {
    "rms_att": "rms_att",
    "wq": "attention.wq",
    "wk": "attention.wk",
    "wv": "attention.wv",
    "wo": "attention.wo",
    "rms_ffn": "rms_ffn",
    "w1": "feed_forward.w1",
    "w2": "feed_forward.w2",
    "w3": "feed_forward.w3",
}


def stacked(model: Llama) -> dict[str, NDArray[np.float32]]:
    """The weights by the names of the file, in its order: those of the layers as one array."""
    weights = {
        name.removesuffix(".weight"): parameter.detach().float().cpu().numpy()
        for name, parameter in model.named_parameters()
    }
    layers = range(model.config.n_layers)
    result = {"tok_emb": weights["tok_emb"]}
    for name, ours in _LAYER_TENSORS.items():
        result[name] = np.stack([weights[f"layers.{i}.{ours}"] for i in layers])
    result["rms_final"] = weights["rms_final"]
    if not model.config.tied:
        result["wcls"] = weights["wcls"]
    return result


def write_bin(model: Llama, path: Path, format: Format = "v0", group_size: int = 0) -> None:
    """Writes a checkpoint; ``group_size`` is v2's, 0 means 64 or what divides ``dim``."""
    if format == "v0":
        with replacing(path) as part:
            _write_v0(model, part)
        return
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder, "v0.bin")
        _write_v0(model, plain)
        _core.convert(str(plain), str(path), format, group_size, None)


def _write_v0(model: Llama, path: Path) -> None:
    c = model.config
    vocab = c.vocab_size if c.tied else -c.vocab_size
    tables = bytes(4 * c.seq_len * c.head_size)  # of RoPE; nobody reads them
    with path.open("wb") as file:
        shape = (c.dim, c.hidden_dim, c.n_layers, c.n_heads, c.n_kv_heads, vocab, c.seq_len)
        file.write(struct.pack("<7i", *shape))
        for name, values in stacked(model).items():
            if name == "wcls":
                file.write(tables)
            file.write(values.astype("<f4").tobytes())
        if c.tied:
            file.write(tables)


@torch.no_grad()
def read_bin(path: Path) -> Llama:
    """A checkpoint of any version as a model to train or to export; int8 weights become fp32."""
    config = Config.from_checkpoint(_core.read_checkpoint(str(path)))
    model = Llama(config)
    weights = dict(model.named_parameters())
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "v0.bin")
        _core.convert(str(path), str(plain), "v0", 0, None)
        values = np.fromfile(plain, "<f4", offset=28)
    at = 0
    for name, shape in [(name, array.shape) for name, array in stacked(model).items()]:
        if name == "wcls":
            at += config.seq_len * config.head_size  # past the tables of RoPE
        size = int(np.prod(shape))
        array = torch.from_numpy(values[at : at + size].reshape(shape))
        at += size
        if name in _LAYER_TENSORS:
            for i, layer in enumerate(array):
                weights[f"layers.{i}.{_LAYER_TENSORS[name]}.weight"].copy_(layer)
        else:
            weights[f"{name}.weight"].copy_(array)
    return model
