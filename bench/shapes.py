"""Checkpoints of a wanted shape with random weights: the arithmetic does not care."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
from tinyzh import Config

#: The model this project is for: 93.3 million parameters.
STORY_93M = Config(768, 2268, 12, 12, 12, 3000, 768, True)


def random_checkpoint(config: Config, folder: Path | None = None) -> Path:
    """A llama2.c v0 file of this shape, made once and kept in ``folder`` (default: the system's
    temporary one)."""
    c = config
    name = f"tinyzh-bench-{c.dim}-{c.hidden_dim}-{c.n_layers}-{c.vocab_size}-{c.seq_len}.bin"
    path = Path(folder or tempfile.gettempdir()) / name
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        header = (c.dim, c.hidden_dim, c.n_layers, c.n_heads, c.n_kv_heads, c.vocab_size, c.seq_len)
        file.write(struct.pack("<7i", *header))

        def matrices(count: int, rows: int, cols: int) -> None:
            for _ in range(count):
                file.write((rng.standard_normal(rows * cols, np.float32) * 0.02).tobytes())

        def ones(n: int) -> None:
            file.write(np.ones(n, np.float32).tobytes())

        matrices(1, c.vocab_size, c.dim)
        ones(c.n_layers * c.dim)
        for rows in (c.dim, c.kv_dim, c.kv_dim, c.dim):
            matrices(c.n_layers, rows, c.dim)
        ones(c.n_layers * c.dim)
        matrices(c.n_layers, c.hidden_dim, c.dim)
        matrices(c.n_layers, c.dim, c.hidden_dim)
        matrices(c.n_layers, c.hidden_dim, c.dim)
        ones(c.dim)
        ones(c.seq_len * c.head_size)  # the two tables that readers skip
    part.rename(path)
    return path


def tokenizer_bin(vocab_size: int, path: Path) -> Path:
    """A tokenizer.bin of that many pieces: bytes, a space, and Chinese characters."""
    pieces = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{i:02X}>" for i in range(256)), " "]
    pieces += [chr(0x4E00 + i) for i in range(vocab_size - len(pieces))]
    with path.open("wb") as file:
        file.write(struct.pack("<i", 6))
        for i, piece in enumerate(pieces):
            data = piece.encode()
            file.write(struct.pack("<fi", -float(i), len(data)) + data)
    return path
