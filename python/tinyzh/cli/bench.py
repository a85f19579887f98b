"""``tinyzh bench``: how fast a model is here, and what the machine would allow."""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..sampling import SamplingParams
from ..special import BOS
from .arguments import add_model_arguments, both, open_model
from .terminal import Terminal

if TYPE_CHECKING:
    from ..generation import Generation
    from ..model import Model

NAME = "bench"
SUMMARY = "speed, beside the machine's limit / 测量速度与机器上限"

_PREFILL_TOKENS = 255
_MANY_TOKENS = 60


@dataclass(frozen=True)
class _Effort:
    repeats: int  # the best one counts
    decode_tokens: int
    streams: int
    bandwidth_bytes: int  # more than any cache holds


_FULL = _Effort(repeats=3, decode_tokens=128, streams=16, bandwidth_bytes=2**28)
_QUICK = _Effort(repeats=1, decode_tokens=32, streams=4, bandwidth_bytes=2**26)


@dataclass(frozen=True)
class Report:
    """Tokens and bytes a second, as measured."""

    model: str
    dtype: str
    isa: str
    threads: int
    prefill_tokens: int
    prefill_tokens_per_second: float
    time_to_first_token: float  #: seconds, for a prompt of two tokens
    decode_tokens_per_second: float
    streams: int
    streams_tokens_per_second: float  #: of all together
    read_bytes_per_token: int
    read_bytes_per_second: dict[str, float]  #: of memory; threads -> bytes
    limit_tokens_per_second: float  #: one stream, if every weight comes from memory
    limit_reached: float  #: decode / limit; above 1 where the weights stay in the cache


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "--quick", action="store_true", help=both("rougher, in a few seconds", "粗略而快速")
    )
    parser.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))
    add_model_arguments(parser)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Measures and prints."""
    report = measure(args, _QUICK if args.quick else _FULL, terminal)
    terminal.progress("")
    if args.json:
        terminal.line(json.dumps(asdict(report), ensure_ascii=False))
        return
    for name, value in _lines(report):
        terminal.line(f"{name:<22}{value}")


def measure(args: argparse.Namespace, effort: _Effort, terminal: Terminal) -> Report:
    """All the measurements, one after another."""
    with open_model(args) as model:
        context = model.config.seq_len
        prompts = [
            _prompt(model, min(_PREFILL_TOKENS, context), other=i) for i in range(effort.repeats)
        ]
        short = _prompt(model, min(2, context))
        terminal.progress("bench: warming up …")
        _wait(_start(model, short, 4))

        terminal.progress("bench: reading a prompt …")
        prefill = min(_prefill_seconds(model, prompt) for prompt in prompts)

        terminal.progress("bench: one stream …")
        singles = [
            _wait(_start(model, short, effort.decode_tokens)).stats for _ in range(effort.repeats)
        ]

        terminal.progress(f"bench: {effort.streams} streams …")
        many = max(_many(model, short, effort.streams) for _ in range(effort.repeats))

        terminal.progress("bench: reading memory …")
        threads = sorted({1, model.threads})
        bandwidth = _bandwidth(threads, effort)
        read = model.memory()["read_per_token"]
        decode = max(s.tokens_per_second or 0.0 for s in singles)
        limit = max(bandwidth.values()) / read
        return Report(
            model=args.model or "built-in",
            dtype=model.dtype,
            isa=model.isa,
            threads=model.threads,
            prefill_tokens=len(prompts[0]),
            prefill_tokens_per_second=len(prompts[0]) / prefill,
            time_to_first_token=min(s.time_to_first_token or 0.0 for s in singles),
            decode_tokens_per_second=decode,
            streams=effort.streams,
            streams_tokens_per_second=many,
            read_bytes_per_token=read,
            read_bytes_per_second={str(n): rate for n, rate in bandwidth.items()},
            limit_tokens_per_second=limit,
            limit_reached=decode / limit,
        )


def _prompt(model: Model, tokens: int, other: int = 0) -> list[int]:
    """BOS and tokens that are no end, without meaning: speed does not depend on it.

    Another ``other`` gives other ones: a prompt that was computed before is not computed again.
    """
    ordinary = max(model.config.vocab_size - 3, 1)
    return [BOS, *(3 + 7919 * (i + other) % ordinary for i in range(1, tokens))]


def _start(model: Model, prompt: list[int], tokens: int, seed: int = 1) -> Generation:
    """A story that nothing ends before it has so many tokens."""
    params = SamplingParams(seed=seed, max_new_tokens=tokens)
    return model._submit(prompt, params, False, None, ())


def _wait(generation: Generation) -> Generation:
    generation.wait()
    generation.read()  # raises what went wrong
    return generation


def _prefill_seconds(model: Model, prompt: list[int]) -> float:
    stats = _wait(_start(model, prompt, 1)).stats
    return (stats.time_to_first_token or 0.0) - (stats.queue_seconds or 0.0)


def _many(model: Model, prompt: list[int], streams: int) -> float:
    started = time.perf_counter()
    stories = [_start(model, prompt, _MANY_TOKENS, 1 + i) for i in range(streams)]
    tokens = sum(len(_wait(story).token_ids) for story in stories)
    return tokens / (time.perf_counter() - started)


def _bandwidth(threads: list[int], effort: _Effort) -> dict[int, float]:
    """Bytes a second that memory gives to so many threads."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    words = np.ones(effort.bandwidth_bytes // 8, dtype=np.int64)
    rates = {}
    for n in threads:
        parts = np.array_split(words, n)
        with ThreadPoolExecutor(n) as pool:
            list(pool.map(np.sum, parts))
            best = float("inf")
            for _ in range(3 * effort.repeats):
                started = time.perf_counter()
                list(pool.map(np.sum, parts))
                best = min(best, time.perf_counter() - started)
        rates[n] = words.nbytes / best
    return rates


def _lines(r: Report) -> list[tuple[str, str]]:
    threads = "1 thread" if r.threads == 1 else f"{r.threads} threads"
    bandwidth = ", ".join(
        f"{rate / 1e9:.1f} GB/s with {n}" for n, rate in r.read_bytes_per_second.items()
    )
    cached = " (the weights stay in the processor's cache)" if r.limit_reached > 1 else ""
    return [
        ("model", f"{os.path.basename(r.model)}, {r.dtype}, {r.isa}, {threads}"),
        ("prefill", f"{r.prefill_tokens_per_second:.1f} tokens/s ({r.prefill_tokens} tokens)"),
        ("first token", f"{r.time_to_first_token * 1000:.1f} ms"),
        ("1 stream", f"{r.decode_tokens_per_second:.1f} tokens/s"),
        (f"{r.streams} streams", f"{r.streams_tokens_per_second:.1f} tokens/s together"),
        ("memory", f"{bandwidth} {'thread' if r.threads == 1 else 'threads'}"),
        (
            "limit for 1 stream",
            f"{r.limit_tokens_per_second:.1f} tokens/s "
            f"({r.read_bytes_per_token / 1e6:.1f} MB a token)",
        ),
        ("reached", f"{r.limit_reached:.0%}{cached}"),
    ]
