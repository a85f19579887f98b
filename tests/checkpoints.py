"""Random models, and llama2.c's three file formats written with NumPy alone."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tensors = dict[str, NDArray[np.float32]]
MAGIC = 0x616B3432


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model's configuration, in the words of the file."""

    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    seq_len: int
    tied: bool = True

    @property
    def head_size(self) -> int:
        return self.dim // self.n_heads

    @property
    def kv_dim(self) -> int:
        return self.head_size * self.n_kv_heads

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, in the order of v0."""
        L, D, H, V = self.n_layers, self.dim, self.hidden_dim, self.vocab_size
        shapes: dict[str, tuple[int, ...]] = {
            "tok_emb": (V, D),
            "rms_att": (L, D),
            "wq": (L, D, D),
            "wk": (L, self.kv_dim, D),
            "wv": (L, self.kv_dim, D),
            "wo": (L, D, D),
            "rms_ffn": (L, D),
            "w1": (L, H, D),
            "w2": (L, D, H),
            "w3": (L, H, D),
            "rms_final": (D,),
        }
        return shapes if self.tied else shapes | {"wcls": (V, D)}

    def header(self, vocab_size: int) -> bytes:
        return struct.pack(
            "<7i",
            self.dim,
            self.hidden_dim,
            self.n_layers,
            self.n_heads,
            self.n_kv_heads,
            vocab_size,
            self.seq_len,
        )


VECTORS = ("rms_att", "rms_ffn", "rms_final")
MATRICES = ("tok_emb", "wq", "wk", "wv", "wo", "w1", "w2", "w3", "wcls")


def random_tensors(shape: Shape, seed: int = 0) -> Tensors:
    """Weights that keep activations near 1, as trained ones do."""
    random = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, size in shape.tensors().items():
        values = random.standard_normal(size)
        if name in VECTORS:
            values = 1 + 0.2 * values
        elif name != "tok_emb":
            values = values / np.sqrt(size[-1])
        tensors[name] = values.astype(np.float32)
    return tensors


def quantise(
    values: NDArray[np.float32], group: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Of a matrix: int8 values, and one scale for ``group`` values of the flattened matrix."""
    groups = values.reshape(-1, group)
    scales = np.abs(groups).max(axis=1) / np.float32(127)
    safe = np.where(scales > 0, scales, np.float32(1))
    q = np.rint(groups / safe[:, None]).astype(np.int8)
    return q.reshape(values.shape), scales.astype(np.float32)


def dequantised(tensors: Tensors, group: int) -> Tensors:
    """What a v2 file of these tensors says: q * s by the flat rule."""

    def through_int8(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        q, scales = quantise(matrix, group)
        flat = q.reshape(-1).astype(np.float32) * np.repeat(scales, group)
        return flat.reshape(matrix.shape)

    result = dict(tensors)
    for name in MATRICES:
        if name in tensors:
            stack = tensors[name]
            single = stack[None] if stack.ndim == 2 else stack
            result[name] = np.stack([through_int8(m) for m in single]).reshape(stack.shape)
    return result


def v0(shape: Shape, tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    parts = [shape.header(shape.vocab_size if shape.tied else -shape.vocab_size)]
    for name in shape.tensors():
        if name == "wcls":
            continue
        parts.append(tensors[name].astype("<f4").tobytes())
    # Two tables that nobody reads; noise, so that a reader that does use them is found out.
    noise = np.random.default_rng(99).standard_normal(shape.seq_len * shape.head_size)
    parts.append(noise.astype("<f4").tobytes())
    if not shape.tied:
        parts.append(tensors["wcls"].astype("<f4").tobytes())
    return b"".join(parts)


def _header_256(shape: Shape, version: int, group: int | None = None) -> bytes:
    head = struct.pack("<Ii", MAGIC, version) + shape.header(shape.vocab_size)
    head += struct.pack("<B", shape.tied)
    if group is not None:
        head += struct.pack("<i", group)
    return head.ljust(256, b"\0")


def v1(shape: Shape, tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    names = [*VECTORS, *(n for n in MATRICES if n in tensors)]
    return _header_256(shape, 1) + b"".join(tensors[n].astype("<f4").tobytes() for n in names)


def v2(shape: Shape, tensors: Mapping[str, NDArray[np.float32]], group: int) -> bytes:
    parts = [_header_256(shape, 2, group)]
    parts += [tensors[n].astype("<f4").tobytes() for n in VECTORS]
    for name in MATRICES:
        if name not in tensors:
            continue
        stack = tensors[name]
        for matrix in stack[None] if stack.ndim == 2 else stack:
            q, scales = quantise(matrix, group)
            parts += [q.tobytes(), scales.astype("<f4").tobytes()]
    return b"".join(parts)


def tokenizer_bin(pieces: list[tuple[bytes, float]]) -> bytes:
    """llama2.c's tokenizer.bin."""
    longest = max(len(data) for data, _ in pieces)
    entries = [struct.pack("<fi", score, len(data)) + data for data, score in pieces]
    return struct.pack("<I", longest) + b"".join(entries)


def byte_pieces(characters: str) -> list[tuple[bytes, float]]:
    """<unk>, BOS, EOS, the 256 bytes, and the given characters: a small vocabulary for stories."""
    pieces = [(b"<unk>", 0.0), (b"\n<s>\n", 0.0), (b"\n</s>\n", 0.0)]
    pieces += [(b"<0x%02X>" % i, 0.0) for i in range(256)]
    return pieces + [(c.encode(), -float(i)) for i, c in enumerate(characters)]


def save(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path
