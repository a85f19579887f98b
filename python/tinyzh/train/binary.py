"""A model's weights as llama2.c's .bin files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .. import _core
from ..formats.found import source_of
from .model import Llama

__all__ = ["LAYER_TENSORS", "Format", "stacked", "write_bin"]

Format = Literal["v0", "v1", "v2"]

#: The tensors of v0 that each layer has, in the order of the file: its name and the model's.
LAYER_TENSORS = {
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
    for name, ours in LAYER_TENSORS.items():
        result[name] = np.stack([weights[f"layers.{i}.{ours}"] for i in layers])
    result["rms_final"] = weights["rms_final"]
    if not model.config.tied:
        result["wcls"] = weights["wcls"]
    return result


def write_bin(model: Llama, path: Path, format: Format = "v0", group_size: int = 0) -> None:
    """Writes a checkpoint; ``group_size`` is v2's, 0 means 64 or what divides ``dim``."""
    _core.convert(source_of(model.config, stacked(model)), str(path), format, group_size, None)
