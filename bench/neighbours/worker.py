"""The process of one engine: ``python -m bench.neighbours.worker ENGINE DTYPE THREADS CACHE``.

Reads a line of JSON for each measurement and answers with one; its parent stops it in between.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
PROMPT = list(range(1, 256))


def measure(engine: Any, work: str) -> float:
    """Seconds to the first token for ``start``, else tokens a second."""
    if work == "start":
        return start(engine.start)
    if work == "prefill":
        return len(PROMPT) / engine.generate([PROMPT], 1)
    streams, batches = {"1": (1, 1), "16": (16, 1), "64": (64, 1), "2x32": (32, 2)}[work]
    tokens = 64 if streams == 1 else 32
    seconds = sum(engine.generate([[1]] * streams, tokens) for _ in range(batches))
    return streams * batches * tokens / seconds


def start(what: str | list[str]) -> float:
    """Seconds from a new process to its first line."""
    if isinstance(what, str):
        what = [sys.executable, "-c", f"{what}; print(flush=True)"]
    begin = time.perf_counter()
    with subprocess.Popen(what, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        line = process.stdout.readline() if process.stdout else b""
        seconds = time.perf_counter() - begin
        _, errors = process.communicate()
    if not line:
        raise RuntimeError(f"no token: {errors[-200:]!r}")
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
    if sys.platform == "linux":  # a stopped process would outlive its parent for ever
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is not an answer
    engine = None
    while True:
        try:
            if not engine:
                engine, answer = opened(*sys.argv[1:])
            elif line := sys.stdin.readline():
                answer = {"value": measure(engine, json.loads(line))}
            else:
                return
        except NotImplementedError:
            answer = {"error": None}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
        if not engine:
            return


if __name__ == "__main__":
    main()
