"""The process of one engine: ``python -m bench.neighbours.worker ENGINE DTYPE THREADS CACHE``.

Reads a line of JSON for each measurement and answers with one; its parent stops it in between.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

PREFILL = list(range(1, 256))


def measure(engine: Any, work: str) -> float:
    """Seconds to the first token for ``start``, else tokens a second."""
    if work == "start":
        return start(engine.start())
    if work == "prefill":
        return len(PREFILL) / engine.prefill(PREFILL)
    streams, batches = {"1": (1, 1), "16": (16, 1), "64": (64, 1), "2x32": (32, 2)}[work]
    tokens = 64 if streams == 1 else 32
    return streams * batches * tokens / sum(engine.decode(streams, tokens) for _ in range(batches))


def start(command: list[str]) -> float:
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
        if not line:
            raise RuntimeError(f"no token: {process.stderr.read()[-200:]!r}")
    return seconds


def opened(name: str, dtype: str, threads: str, cache: str) -> tuple[Any, dict[str, Any]]:
    """The engine, and what is to be known of it."""
    module = importlib.import_module(f".{name}", __package__)
    engine = module.Engine(dtype, int(threads), Path(cache))
    try:
        version = metadata.version(module.PACKAGE)
    except metadata.PackageNotFoundError:  # not installed by pip
        version = None
    return engine, {"version": version, "bytes_per_token": getattr(engine, "bytes_per_token", None)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not an answer

    def answer(work: Callable[[], dict[str, Any]]) -> bool:
        try:
            found, good = work(), True
        except NotImplementedError:
            found, good = {"none": True}, False
        except Exception as error:
            found, good = {"error": f"{type(error).__name__}: {error}"}, False
        print(json.dumps(found), file=answers, flush=True)
        return good

    engine = None

    def open_it() -> dict[str, Any]:
        nonlocal engine
        engine, known = opened(*sys.argv[1:])
        return known

    if answer(open_it):
        for line in sys.stdin:
            work = json.loads(line)
            answer(lambda work=work: {"value": measure(engine, work)})


if __name__ == "__main__":
    main()
