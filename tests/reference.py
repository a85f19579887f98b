"""Llama in NumPy, in double precision: a second model, written to be read and not to be fast.

Every intermediate has the name that ``tinyzh._core.Engine.trace`` gives it.  Letters in shapes:
T positions, D dim, H hidden_dim, V vocab_size, h heads, g kv heads, s head size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from checkpoints import Shape
from numpy.typing import NDArray

Array = NDArray[np.float64]
EPSILON = 1e-5
THETA = 10000.0


def rms_norm(x: Array, weight: Array) -> Array:
    """(T, D), (D) -> (T, D)"""
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON) * weight


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def angles(positions: int, head_size: int) -> Array:
    """(T, s/2).  Rounded to float32 where the training code rounded: the model has learnt these."""
    exponent = np.arange(0, head_size, 2).astype(np.float32) / np.float32(head_size)
    power = (THETA ** exponent.astype(np.float64)).astype(np.float32)
    frequency = np.float32(1) / power
    position = np.arange(positions).astype(np.float32)
    return (position[:, None] * frequency[None, :]).astype(np.float64)


def rotate(x: Array, angle: Array) -> Array:
    """Turns the pairs (x[2i], x[2i+1]) of every head: (T, heads, s), (T, s/2) -> (T, heads, s)."""
    cos, sin = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]  # (T, 1, s/2)
    even, odd = x[..., 0::2], x[..., 1::2]  # (T, heads, s/2)
    out = np.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


def attention(q: Array, k: Array, v: Array) -> Array:
    """(T, h, s), (T, g, s), (T, g, s) -> (T, h, s): each position looks at itself and back."""
    positions, heads, size = q.shape
    shared = heads // k.shape[1]  # query heads of one kv head
    future = np.triu(np.full((positions, positions), -np.inf), 1)
    out = np.empty_like(q)
    for head in range(heads):
        keys, values = k[:, head // shared], v[:, head // shared]  # (T, s)
        scores = q[:, head] @ keys.T / np.sqrt(size) + future  # (T, T)
        out[:, head] = softmax(scores) @ values
    return out


def rounded(x: Array) -> Array:
    """(T, n) as int8 keeps it: one scale a row, half to even."""
    largest = np.abs(x).max(axis=-1, keepdims=True)
    scale = np.where(largest > 0, largest, 1) / 127
    return np.rint(x / scale) * scale


def forward(
    tensors: Mapping[str, NDArray[np.float32]],
    shape: Shape,
    ids: Sequence[int],
    *,
    int8_activations: bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Logits (T, V) and every named intermediate (T, width)."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    T, D, s = len(ids), shape.dim, shape.head_size
    angle = angles(T, s)  # (T, s/2)
    named: dict[str, Array] = {}

    def product(x: Array, matrix: Array) -> Array:
        """(T, n), (m, n) -> (T, m)"""
        return (rounded(x) if int8_activations else x) @ matrix.T

    x = w["tok_emb"][list(ids)]  # (T, D)
    for layer in range(shape.n_layers):

        def name(what: str, value: Array, layer: int = layer) -> None:
            named[f"layers.{layer}.{what}"] = value.reshape(T, -1)

        # x += wo * attention(rope(wq * norm(x)), rope(wk * norm(x)), wv * norm(x))
        name("x", x)
        att_norm = rms_norm(x, w["rms_att"][layer])  # (T, D)
        name("att_norm", att_norm)
        q = product(att_norm, w["wq"][layer]).reshape(T, shape.n_heads, s)
        k = product(att_norm, w["wk"][layer]).reshape(T, shape.n_kv_heads, s)
        v = product(att_norm, w["wv"][layer]).reshape(T, shape.n_kv_heads, s)
        q, k = rotate(q, angle), rotate(k, angle)
        name("q", q)
        name("k", k)
        name("v", v)
        att = attention(q, k, v).reshape(T, D)
        name("att", att)
        att_out = product(att, w["wo"][layer])  # (T, D)
        name("att_out", att_out)
        x = x + att_out

        # x += w2 * (silu(w1 * norm(x)) * (w3 * norm(x)))
        name("x_mid", x)
        ffn_norm = rms_norm(x, w["rms_ffn"][layer])  # (T, D)
        name("ffn_norm", ffn_norm)
        gate = silu(product(ffn_norm, w["w1"][layer])) * product(ffn_norm, w["w3"][layer])
        name("gate", gate)  # (T, H)
        ffn_out = product(gate, w["w2"][layer])  # (T, D)
        name("ffn_out", ffn_out)
        x = x + ffn_out

    final = rms_norm(x, w["rms_final"])  # (T, D)
    named["final_norm"] = final
    logits = product(final, w["tok_emb"] if shape.tied else w["wcls"])  # (T, V)
    named["logits"] = logits
    return logits, named
