"""What the thread pool costs by itself."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
import tinyzh

from .timing import checkpoint, median

TOKENS = 48

kernels = pytest.importorskip("_kernels", reason="built by python -m bench.kernels")


def test_fork_and_join(benchmark: Any, pytestconfig: pytest.Config) -> None:
    """The regions of a decoding step with int8 weights, all of them empty, beside a whole step."""
    path = checkpoint(pytestconfig)
    with tinyzh.Model(path, tokenizer=False, dtype="int8", threads=2) as model:
        # One region for the embedding, ten a layer, two for the logits (csrc/model/forward.cc).
        regions = 3 + 10 * model.config.n_layers
        rates = []
        for _ in range(5):
            story = model.generate([1], temperature=0, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
            story.wait()
            rates.append(story.stats.tokens_per_second or 0.0)
    work = kernels.empty_region(2)
    benchmark.pedantic(work.run, args=(regions,), rounds=100, warmup_rounds=5)
    benchmark.extra_info["percent_of_step"] = 100 * median(benchmark) * statistics.median(rates)
