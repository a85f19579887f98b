"""The process of one engine: ``python -m bench.neighbours.worker ENGINE DTYPE THREADS CACHE``.

Reads a line of JSON for each measurement and answers with one; sleeps in between.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

PREFILL = list(range(1, 256))


def measure(engine: Any, work: str) -> float:
    """Tokens a second."""
    if work == "prefill":
        return len(PREFILL) / engine.prefill(PREFILL)
    streams, batches = {"1": (1, 1), "16": (16, 1), "64": (64, 1), "2x32": (32, 2)}[work]
    tokens = 64 if streams == 1 else 32
    return streams * batches * tokens / sum(engine.decode(streams, tokens) for _ in range(batches))


def main() -> None:
    name, dtype, threads, cache = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not an answer
    try:
        engine = importlib.import_module(f".{name}", __package__).Engine(
            dtype, int(threads), Path(cache)
        )
        print(json.dumps({"ready": True}), file=answers, flush=True)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"tokens_per_second": measure(engine, json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
