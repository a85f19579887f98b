"""Decode, prefill and start-up on the 93M shape and on the built-in model."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tinyzh
from tinyzh import _core

from .shapes import STORY_93M, random_checkpoint
from .timing import median

TOKENS = 48
PROMPT = list(range(1, 256))


@pytest.fixture(scope="module", params=["float32", "int8"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[1, 2])
def model(request: pytest.FixtureRequest, dtype: str) -> Iterator[tinyzh.Model]:
    path = random_checkpoint(STORY_93M)
    with tinyzh.Model(path, tokenizer=False, dtype=dtype, threads=request.param) as opened:
        yield opened


def test_decode_one_stream(benchmark: Any, model: tinyzh.Model) -> None:
    def decode() -> tinyzh.Generation:
        story = model.generate([1], seed=1, max_new_tokens=TOKENS, min_new_tokens=TOKENS)
        story.wait()
        return story

    story = benchmark.pedantic(decode, rounds=5, warmup_rounds=1)
    assert len(story.token_ids) == TOKENS
    seconds = median(benchmark)
    benchmark.extra_info["tokens_per_second"] = TOKENS / seconds
    read = model.memory()["read_per_token"]
    benchmark.extra_info["gigabytes_per_second"] = read * TOKENS / seconds * 1e-9


def test_prefill_255(benchmark: Any, model: tinyzh.Model) -> None:
    first = itertools.count(300)  # or the engine would know the prompt

    def prefill() -> None:
        model.generate([next(first), *PROMPT[1:]], seed=1, max_new_tokens=1).wait()

    benchmark.pedantic(prefill, rounds=5, warmup_rounds=1)
    assert model.stats().reused_tokens == 0
    benchmark.extra_info["tokens_per_second"] = len(PROMPT) / median(benchmark)


@pytest.mark.parametrize("streams", [1, 4, 16, 64])
def test_decode_streams(benchmark: Any, streams: int) -> None:
    """Stories side by side, greedy, through the engine."""
    path = random_checkpoint(STORY_93M)
    with tinyzh.Model(path, tokenizer=False, dtype="int8", kv_dtype="int8", threads=2) as model:

        def decode() -> None:
            settings = {"temperature": 0, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
            stories = [model.generate([1, 5 + i], **settings) for i in range(streams)]
            for story in stories:
                story.wait()

        benchmark.pedantic(decode, rounds=5, warmup_rounds=1)
        info = benchmark.extra_info
        info["tokens_per_second"] = streams * TOKENS / median(benchmark)


@pytest.mark.parametrize("position", [50, 200, 400, 700])
@pytest.mark.parametrize("kv_dtype", ["float16", "int8"])
def test_decode_context(benchmark: Any, kv_dtype: str, position: int) -> None:
    """A token's cost against its position: one stream, one thread; the prompt is not counted."""
    path = random_checkpoint(STORY_93M)
    with tinyzh.Model(path, tokenizer=False, dtype="int8", kv_dtype=kv_dtype, threads=1) as model:
        prompt = [1 + i % 2000 for i in range(position - TOKENS // 2)]

        rates = []

        def decode() -> None:
            settings = {"temperature": 0, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS}
            story = model.generate(prompt, **settings)
            story.wait()
            rates.append(story.stats.tokens_per_second or 0.0)

        benchmark.pedantic(decode, rounds=5, warmup_rounds=1)
        benchmark.extra_info["milliseconds_per_token"] = 1e3 / statistics.median(rates)


@pytest.mark.parametrize("kv_dtype", ["float16", "int8"])
def test_memory_of_sessions(benchmark: Any, kv_dtype: str) -> None:
    """Open sessions of 100 tokens each: bytes of keys and values, of one."""
    path = random_checkpoint(STORY_93M)
    count = 20
    settings: dict[str, Any] = {"dtype": "int8", "kv_dtype": kv_dtype, "kv_cache": "1GiB"}
    with tinyzh.Model(path, tokenizer=False, **settings) as model:

        def open_all() -> None:
            for i in range(count):
                session = model.session(ids=[1, *((7 * i + j) % 2900 + 3 for j in range(50))])
                session.say(max_new_tokens=49, min_new_tokens=49).wait()

        benchmark.pedantic(open_all, rounds=1)
        benchmark.extra_info["bytes_per_session"] = model.memory()["kv_cache_used"] / count


def test_start_built_in(benchmark: Any) -> None:
    """A fresh process: import, open the built-in model, first token."""
    code = "import tinyzh; print(next(tinyzh.Model().generate('从前', seed=1)))"
    benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True),
        rounds=10,
        warmup_rounds=2,
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_start_tz(benchmark: Any, tmp_path: Path, dtype: str, threads: int) -> None:
    """From the call of Model() to the first token; the file lies in the page cache."""
    path = tmp_path / "model.tz"
    _core.convert_to_tz(_core.Source(str(random_checkpoint(STORY_93M))), str(path), dtype, None)

    def start() -> None:
        with tinyzh.Model(path, tokenizer=False, threads=threads) as model:
            model.generate([1], seed=1, max_new_tokens=1).wait()

    benchmark.pedantic(start, rounds=9, warmup_rounds=1)
