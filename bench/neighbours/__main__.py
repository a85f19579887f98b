"""Measures, and writes JSON and a Markdown table.

    python -m bench.neighbours --cache FOLDER [--llama2c PATH] [--out FOLDER]

Neighbours that are not installed get a line that says so.  To have them all:
pip install llama-cpp-python gguf ctranslate2 onnxruntime-genai onnx-ir transformers torch
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from typing import Any

from ..command import leave, parser_of
from ..shapes import STORY_93M, random_checkpoint
from .limits import processor, read_bandwidth
from .report import WORK, summary, table

ENGINES = {
    "tinyzh": "ours",
    "llama2.c": "llama2c_engine",
    "llama.cpp": "llama_cpp_python",
    "CTranslate2": "ctranslate2_engine",
    "onnxruntime-genai": "onnxruntime_genai_engine",
    "transformers": "transformers_engine",
}
DTYPES = {
    name: importlib.import_module(f".{module}", __package__).DTYPES
    for name, module in ENGINES.items()
}


class Worker:
    """The process of one engine with one type of weights; it runs only while it is measured."""

    def __init__(self, engine: str, dtype: str, args: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "bench.neighbours.worker", ENGINES[engine], dtype]
        env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "LLAMA2C": args.llama2c}
        self._process = subprocess.Popen(
            [*command, str(args.threads), str(args.cache)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        known = self._answer()
        #: what the report is made of: values and errors by work
        self.row = {"engine": engine, "dtype": dtype, "error": None, "values": {}, "errors": {}}
        self.row |= known

    def _answer(self) -> dict[str, Any]:
        """Its next line; then it stops, and with it whatever threads its engine leaves spinning."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"its process ended with status {self._process.wait()}"}
        self._process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, work: str) -> dict[str, Any]:
        assert self._process.stdin
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # it is gone, and so there is no answer
            self._process.stdin.write(json.dumps(work) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def measure(self, work: str) -> None:
        """One more value, unless this work failed before or the process is gone."""
        values, errors = self.row["values"], self.row["errors"]
        if self.row["error"] or work in errors:
            return
        answer = self._ask(work)
        if "value" in answer:
            values.setdefault(work, []).append(answer["value"])
            say(f"  {self.row['engine']} {self.row['dtype']} {work}: {answer['value']:.4g}")
        elif self._process.poll() is not None:
            self.row["error"] = answer["error"]
        else:
            values.pop(work, None)
            errors[work] = answer["error"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds of all engines."""
    random_checkpoint(STORY_93M)
    read: dict[int, list[float]] = {threads: [] for threads in sorted({1, args.threads})}
    workers = []
    with ExitStack() as stack:
        for engine in args.engines:
            for dtype in DTYPES[engine]:
                if dtype in args.dtypes:
                    workers.append(Worker(engine, dtype, args))
                    stack.callback(workers[-1].close)
                    say(f"{engine} {dtype}: {workers[-1].row['error'] or 'ready'}")
        for round_ in range(args.rounds):
            say(f"round {round_ + 1} of {args.rounds}")
            for threads, values in read.items():
                values.append(read_bandwidth(threads))
            for work in args.work:
                for worker in workers:
                    worker.measure(work)
    machine = {"processor": processor(), "threads": args.threads, "rounds": args.rounds}
    return summary(machine, read, [worker.row for worker in workers])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = parser_of("neighbours", __doc__, 5, "results")
    dtypes = list(dict.fromkeys(dtype for several in DTYPES.values() for dtype in several))
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--dtypes", nargs="+", choices=dtypes, default=dtypes)
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--llama2c", default="", help="llama2.c's program, or its checkout")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    result = run(args)
    leave(args.out, "results", result, table(result))


if __name__ == "__main__":
    main()
