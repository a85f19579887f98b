"""What benchmarks ask pytest-benchmark, whether it times or (--benchmark-disable) only calls."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tinyzh import Config

from .shapes import STORY_93M, random_checkpoint

#: Stands in for the 93M shape where nothing is timed.
TINY = Config(64, 96, 2, 4, 4, 3000, 768, True)


def only_called(config: pytest.Config) -> bool:
    return bool(config.getoption("benchmark_disable")) and not config.getoption("benchmark_enable")


def checkpoint(config: pytest.Config) -> Path:
    return random_checkpoint(TINY if only_called(config) else STORY_93M)


def median(benchmark: Any) -> float:
    """Seconds of a round; not a number where nothing was timed."""
    return benchmark.stats.stats.median if benchmark.stats else math.nan
