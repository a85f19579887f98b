"""The Llama architecture in PyTorch, written to be read; ``csrc/model/`` computes the same.

Letters in shapes: B sequences, T positions, D ``dim``, H ``hidden_dim``, V ``vocab_size``, N query
heads, K key/value heads, S head size (D / N).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config

__all__ = ["Llama", "rope_tables", "rotate"]


def rope_tables(seq_len: int, head_size: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position times frequency, both (T, S / 2)."""
    frequencies = theta ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
    angles = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequencies)
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE: turns each pair of neighbours of x (B, T, heads, S) by its position's angle."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # both (B, T, heads, S / 2)
    cos, sin = cos[:, None], sin[:, None]  # (T, 1, S / 2)
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).type_as(x)


class Dropout(nn.Module):
    """Zeroes a share of the channels of x (B, T, D) in training: of each position, or ``locked``.

    Locked (Gal and Ghahramani, 2016), a row has one mask (B, 1, D) for all its positions. That
    regularises a small text as well, and costs nothing where random numbers are slow: on a CPU.
    """

    def __init__(self, share: float, locked: bool) -> None:
        super().__init__()
        self.share, self.locked = share, locked

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        if not self.locked or not self.training or not self.share:
            return F.dropout(x, self.share, self.training)
        kept = torch.rand(x.shape[0], 1, x.shape[2], device=x.device) >= self.share
        return x * (kept / (1 - self.share)).type_as(x)


class Attention(nn.Module):
    """Causal self-attention; each key/value head serves N / K query heads."""

    def __init__(self, config: Config, dropout: float, locked: bool) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.inner_dropout = 0.0 if locked else dropout
        self.dropout = Dropout(dropout, locked)
        self.wq = nn.Linear(config.dim, config.dim, bias=False)
        self.wk = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.wv = nn.Linear(config.dim, config.kv_dim, bias=False)
        self.wo = nn.Linear(config.dim, config.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """What each position takes from those before it and from itself, (B, T, D)."""
        q = self.wq(x).unflatten(-1, (self.n_heads, -1))  # (B, T, N, S)
        k = self.wk(x).unflatten(-1, (self.n_kv_heads, -1))  # (B, T, K, S)
        v = self.wv(x).unflatten(-1, (self.n_kv_heads, -1))  # (B, T, K, S)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        shared = self.n_heads // self.n_kv_heads
        if shared > 1:
            k, v = k.repeat_interleave(shared, dim=2), v.repeat_interleave(shared, dim=2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, N, T, S)
        dropout = self.inner_dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        out: Tensor = self.dropout(self.wo(y.transpose(1, 2).flatten(2)))
        return out


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: Config, dropout: float, locked: bool) -> None:
        super().__init__()
        self.dropout = Dropout(dropout, locked)
        self.w1 = nn.Linear(config.dim, config.hidden_dim, bias=False)
        self.w2 = nn.Linear(config.hidden_dim, config.dim, bias=False)
        self.w3 = nn.Linear(config.dim, config.hidden_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        y: Tensor = self.dropout(self.w2(F.silu(self.w1(x)) * self.w3(x)))
        return y


class Layer(nn.Module):
    """Attention and feed-forward, each with its norm before it and a residual around it."""

    def __init__(self, config: Config, dropout: float, locked: bool) -> None:
        super().__init__()
        self.rms_att = nn.RMSNorm(config.dim, config.norm_eps)
        self.attention = Attention(config, dropout, locked)
        self.rms_ffn = nn.RMSNorm(config.dim, config.norm_eps)
        self.feed_forward = FeedForward(config, dropout, locked)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        x = x + self.attention(self.rms_att(x), cos, sin)
        return x + self.feed_forward(self.rms_ffn(x))


class Llama(nn.Module):
    """The whole model; random weights, to be trained."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: Config, dropout: float = 0.0, locked: bool = False) -> None:
        super().__init__()
        self.config, self.dropout = config, Dropout(dropout, locked)
        self.tok_emb = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(Layer(config, dropout, locked) for _ in range(config.n_layers))
        self.rms_final = nn.RMSNorm(config.dim, config.norm_eps)
        self.wcls = nn.Linear(config.dim, config.vocab_size, bias=False)
        cos, sin = rope_tables(config.seq_len, config.head_size, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()
        if config.tied:
            self.wcls.weight = self.tok_emb.weight

    def _initialise(self) -> None:
        """Normal, 0.02; what is added to the residual, smaller with the depth, as in GPT-2."""
        small = 0.02 / math.sqrt(2 * self.config.n_layers)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                added = name.endswith(("wo.weight", "w2.weight"))
                nn.init.normal_(weight, std=small if added else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) for the token after each of ``tokens`` (B, T)."""
        T = tokens.shape[1]
        cos, sin = self.cos[:T], self.sin[:T]
        x = self.dropout(self.tok_emb(tokens))  # (B, T, D)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits: Tensor = self.wcls(self.rms_final(x))
        return logits

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The sum of the cross-entropies in nats, over the targets that are not negative."""
        logits = self(tokens).flatten(0, 1).float()  # (B T, V)
        return F.cross_entropy(logits, targets.flatten(), ignore_index=-1, reduction="sum")
