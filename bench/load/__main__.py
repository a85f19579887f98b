"""A crowd of clients, each engine in turn, round after round; writes JSON and a Markdown table.

    python -m bench.load --cache FOLDER [--llama-server PROGRAM] [--out FOLDER]

The 93M shape in 8 bits, prompts of 24 tokens, 60 new tokens a request.  CTranslate2 (pip install
ctranslate2 transformers torch) batches what has come; llama-server needs aiohttp here.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import resource
import statistics
import sys
from typing import Any

from ..command import leave, parser_of
from ..neighbours.limits import processor
from .clients import NEW, Engine, closed_loop, poisson
from .engines import CTranslate2, LlamaServer, Ours

CLIENTS = 25
COLUMNS = ("tokens_per_second", "first_p50", "first_p99", "gap_p50", "gap_p99", "refused")


def engines(args: argparse.Namespace) -> list[Engine]:
    """Those that are there."""
    found: list[Engine] = [Ours(args.threads, args.cache)]
    if importlib.util.find_spec("ctranslate2"):
        found.append(CTranslate2(args.threads, args.cache))
    if args.llama_server:
        found.append(LlamaServer(args.threads, args.cache, args.llama_server))
    return found


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    crowd = engines(args)
    results: dict[str, dict[str, list[dict[str, float]]]] = {}

    def note(work: str, engine: Engine, summary: dict[str, float]) -> None:
        results.setdefault(work, {}).setdefault(engine.name, []).append(summary)
        shown = ", ".join(f"{k} {v:.4g}" for k, v in summary.items())
        print(f"  {work}: {engine.name}: {shown}", file=sys.stderr, flush=True)

    for engine in crowd:
        await closed_loop(engine, 4, 1, 0)  # warm
    for round_ in range(args.rounds):
        print(f"round {round_ + 1} of {args.rounds}", file=sys.stderr, flush=True)
        capacity = {}
        for engine in crowd:
            summary = (await closed_loop(engine, CLIENTS, args.seconds, round_)).summary()
            capacity[engine.name] = summary["tokens_per_second"] / NEW
            note(f"{CLIENTS} clients in a closed loop", engine, summary)
        ours = capacity[crowd[0].name]
        for load in args.loads:
            for engine in crowd:
                rate = load / 100 * capacity[engine.name]
                record = await poisson(engine, rate, args.seconds, round_)
                note(f"arrivals at {load} % of its own capacity", engine, record.summary())
        for engine in crowd:
            record = await poisson(engine, ours / 2, args.seconds, round_)
            note("arrivals at 50 % of tinyzh's capacity", engine, record.summary())
    for engine in crowd:
        await engine.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "machine": {"processor": processor(), "threads": args.threads, "rounds": args.rounds},
        "peak_bytes_of_this_process": peak,
        "results": results,
    }


def table(result: dict[str, Any]) -> str:
    """Medians over the rounds; times in milliseconds."""
    lines = [
        "| work | engine | tokens/s | first piece p50 | p99 | gap p50 | p99 | refused |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for work, by_engine in result["results"].items():
        for name, rounds in by_engine.items():
            cells = [f"{statistics.median(r[c] for r in rounds):.0f}" for c in COLUMNS]
            lines.append(f"| {work} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = parser_of("load", __doc__, 3, "load")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--loads", type=int, nargs="*", default=[50, 80, 120])
    parser.add_argument("--llama-server", default="", help="the program")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    result = asyncio.run(measure(args))
    leave(args.out, "load", result, table(result))


if __name__ == "__main__":
    main()
