"""The 93M shape on a GPU: one story, 64 and 1,024 at a time, and prompts, in every type of weights,
beside the limits of the GPU, transformers and llama.cpp; JSON and a Markdown table.

    python -m bench.gpu [--dtypes float16 ...] [--llama-bench PROGRAM] [--out FOLDER]

Needs a GPU and a package with CUDA in it (docs/cuda.md); says so where they are not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import tinyzh
from tinyzh import Config, Model, _core

from ..command import leave, parser_of
from ..shapes import STORY_93M, random_checkpoint
from . import neighbours
from .limits import Properties, properties, step_seconds, tokens_per_second

DTYPES = ("float16", "bfloat16", "float32", "int8", "int4")
STREAMS = (1, 64, 1024)
PROMPT = 512  #: tokens of a prompt


def decode_speed(model: Model, streams: int, tokens: int) -> float:
    """Tokens a second while all of them draw: the time in which the middle half is told."""
    total = streams * tokens
    before = model.stats().new_tokens
    stories = [
        model.generate(
            [1],
            seed=i + 1,
            temperature=0.9,
            top_p=0.9,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
        )
        for i in range(streams)
    ]
    marks = []
    for share in (0.25, 0.75):
        while (told := model.stats().new_tokens - before) < share * total:
            time.sleep(0.0005)
        marks.append((time.perf_counter(), told))
    for story in stories:
        story.wait()
    (start, first), (end, last) = marks
    return (last - first) / (end - start)


def prompt_speed(model: Model, streams: int) -> float:
    """Prompt tokens a second: different prompts, so that nothing is shared."""
    ids = [[1, *((7 * i + t) % 2900 + 50 for t in range(PROMPT - 1))] for i in range(streams)]
    start = time.perf_counter()
    stories = [model.generate(one, max_new_tokens=1, seed=1) for one in ids]
    for story in stories:
        story.wait()
    return streams * PROMPT / (time.perf_counter() - start)


def measure(
    args: argparse.Namespace, gpu: Properties, config: Config, path: Path
) -> dict[str, Any]:
    """All types in turn, round after round; the median of the rounds."""
    speeds: dict[str, dict[str, list[float]]] = {}
    for round_ in range(args.rounds):
        for dtype in args.dtypes:
            print(f"round {round_ + 1} of {args.rounds}: {dtype}", file=sys.stderr, flush=True)
            of_dtype = speeds.setdefault(dtype, {})
            with Model(path, tokenizer=False, dtype=dtype, device="cuda", streams=1024) as model:
                decode_speed(model, 1, 16)  # warm
                for streams in STREAMS:
                    decode_speed(model, streams, 8)
                    speed = decode_speed(model, streams, args.tokens)
                    of_dtype.setdefault(str(streams), []).append(speed)
                for name, count in (("prompt", 1), ("32 prompts", 32)):
                    of_dtype.setdefault(name, []).append(prompt_speed(model, count))
    positions = args.tokens / 2
    return {
        "gpu": {
            "name": gpu.name,
            "compute_capability": gpu.compute_capability,
            "bandwidth": gpu.bandwidth,
            "tensor_operations": gpu.tensor_operations,
        },
        "build": _core.cuda_build(),
        "version": tinyzh.__version__,
        "tokens": args.tokens,
        "tinyzh": {
            dtype: {work: statistics.median(values) for work, values in works.items()}
            for dtype, works in speeds.items()
        },
        "limits": {
            dtype: {
                str(streams): {
                    **step_seconds(gpu, config, dtype, streams, positions),
                    "tokens_per_second": tokens_per_second(gpu, config, dtype, streams, positions),
                }
                for streams in STREAMS
            }
            for dtype in args.dtypes
        },
        "transformers": neighbours.transformers_speeds(args.cache, (1, 64), args.tokens),
        "llama.cpp": neighbours.llama_cpp_speeds(args.llama_bench, args.cache, PROMPT, args.tokens)
        if args.llama_bench
        else {},
    }


def table(result: dict[str, Any]) -> str:
    """Tokens a second, and what share of the nearer limit that is."""
    columns = [*(str(s) for s in STREAMS), "prompt", "32 prompts"]
    lines = [
        f"{result['gpu']['name']}, {result['build']}, tinyzh {result['version']}; tokens a second",
        "",
        "| | " + " | ".join(f"{c} streams" if c.isdigit() else c for c in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for dtype, works in result["tinyzh"].items():
        cells = []
        for column in columns:
            limit = result["limits"][dtype].get(column, {}).get("tokens_per_second")
            share = f" ({works[column] / limit:.0%} of {limit:,.0f})" if limit else ""
            cells.append(f"{works[column]:,.0f}{share}")
        lines.append(f"| tinyzh {dtype} | {' | '.join(cells)} |")
    for name in ("transformers", "llama.cpp"):
        if works := result[name]:
            cells = [f"{works[c]:,.0f}" if c in works else "" for c in columns]
            lines.append(f"| {name} float16 | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = parser_of("gpu", __doc__, 3, "gpu")
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--tokens", type=int, default=256, help="of a story, 16 to 700")
    parser.add_argument(
        "--llama-bench", default="", help="that program of a CUDA build of llama.cpp"
    )
    args = parser.parse_args(argv)
    if not 16 <= args.tokens <= 700:
        parser.error(f"--tokens is {args.tokens}: expected 16 to 700, which fit the context")
    if "cuda" not in _core.devices():
        sys.exit("this package has no CUDA in it: TINYZH_CUDA=1 pip install . (docs/cuda.md)")
    try:
        gpu = properties()
    except RuntimeError as error:
        sys.exit(f"{error}; this benchmark needs one")
    args.cache.mkdir(parents=True, exist_ok=True)
    result = measure(args, gpu, STORY_93M, random_checkpoint(STORY_93M, args.cache))
    leave(args.out, "gpu", result, table(result))


if __name__ == "__main__":
    main()
