"""What a model's engine has done lately, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["EngineStats", "Percentiles"]


@dataclass(frozen=True)
class Percentiles:
    """Of the last 1,024 durations, in seconds; 0 before there are any."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class EngineStats:
    """What ``Model.stats()`` returns."""

    running: int  #: requests that are computed together
    waiting: int  #: requests in the queue
    pages: int  #: of the cache, in use: by what runs, or kept for who begins with the same text
    pages_kept: int  #: of them, those that nobody holds
    pages_limit: int  #: within the budget ``kv_cache``
    steps: int  #: forward passes since the model was opened
    requests: int  #: that began, those that gave way and came back counted again
    preemptions: int  #: requests that gave way for memory or for a more important one
    prompt_tokens: int  #: computed
    reused_tokens: int  #: of prompts, found in the cache
    new_tokens: int  #: drawn
    tokens_per_second: float  #: drawn over the last 256 steps
    step_seconds: Percentiles  #: of a step
    overhead_seconds: Percentiles  #: of it, all but the forward pass
    first_token_seconds: Percentiles  #: from submission to the first token

    @classmethod
    def from_core(cls, stats: dict[str, Any]) -> EngineStats:
        """From what the core says."""
        fields = {k: v for k, v in stats.items() if k in cls.__dataclass_fields__}
        for name in ("step_seconds", "overhead_seconds", "first_token_seconds"):
            fields[name] = Percentiles(**fields[name])
        return cls(**fields)
