"""The shape of a model, in the words of its file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Config"]


@dataclass(frozen=True)
class Config:
    """What a checkpoint's header says."""

    dim: int  #: width of the residual stream
    hidden_dim: int  #: width inside the feed-forward network
    n_layers: int
    n_heads: int  #: query heads
    n_kv_heads: int  #: key and value heads; fewer than ``n_heads`` is grouped-query attention
    vocab_size: int
    seq_len: int  #: longest context, in tokens
    tied: bool  #: the classifier is the token embedding
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.dim // self.n_heads

    @property
    def kv_dim(self) -> int:
        """Width of the keys, and of the values, of one position."""
        return self.head_size * self.n_kv_heads

    @classmethod
    def from_checkpoint(cls, header: dict[str, Any]) -> Config:
        """From the dictionary that the core returns."""
        return cls(**header["config"])
