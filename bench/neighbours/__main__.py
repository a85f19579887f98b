"""Measures, and writes JSON and a Markdown table.

    python -m bench.neighbours --cache /tmp/neighbours [--llama2c PATH/TO/run] [--out FOLDER]

Neighbours that are not installed are said to be missing.  To have them all:
pip install llama-cpp-python gguf ctranslate2 transformers torch
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ..shapes import STORY_93M, random_checkpoint
from .limits import read_bandwidth

ENGINES = {
    "tinyzh": "ours",
    "llama2.c": "llama2c_engine",
    "llama.cpp": "llama_cpp_python",
    "CTranslate2": "ctranslate2_engine",
    "transformers": "transformers_engine",
}
WORK = {
    "1": "decode, 1 stream",
    "16": "decode, 16 streams",
    "64": "decode, 64 streams",
    "2x32": "decode, 64 streams as 2 × 32",
    "prefill": "prefill of 255",
}
#: fresh process to the first token of the fp32 file
STARTS = {
    "tinyzh": "import tinyzh; m = tinyzh.Model({bin!r}, tokenizer=False); "
    "m.generate([1], max_new_tokens=1, seed=1).wait()",
    "llama.cpp": "import llama_cpp; m = llama_cpp.Llama({gguf!r}, verbose=False, n_ctx=768); "
    "next(m.generate([1]))",
}


class Worker:
    """The process of one engine with one type of weights."""

    def __init__(self, engine: str, dtype: str, args: argparse.Namespace) -> None:
        command = [sys.executable, "-m", "bench.neighbours.worker", ENGINES[engine], dtype]
        command += [str(args.threads), str(args.cache)]
        env = os.environ | {"OMP_NUM_THREADS": str(args.threads)}
        if args.llama2c:
            env["TINYZH_BENCH_LLAMA2C"] = str(args.llama2c)
        self.name, self.dtype = engine, dtype
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )
        self.error: str | None = self._answer().get("error")

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def measure(self, work: str) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def start_up(engine: str, args: argparse.Namespace) -> float | None:
    """Seconds, or None where the engine is not there."""
    code = STARTS[engine].format(
        bin=str(random_checkpoint(STORY_93M)), gguf=str(args.cache / "float32.gguf")
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    return None if done.returncode else time.perf_counter() - start


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds; medians by engine, type and work."""
    workers = []
    for name in args.engines:
        if name == "llama2.c" and not args.llama2c:
            continue
        for dtype in importlib.import_module(f".{ENGINES[name]}", __package__).DTYPES:
            workers.append(Worker(name, dtype, args))
            say(f"{name} {dtype}: {workers[-1].error or 'ready'}")
    found: dict[tuple[str, str, str], list[float]] = {}
    errors = {f"{w.name} {w.dtype}": w.error for w in workers if w.error}
    bandwidth: dict[int, list[float]] = {1: [], args.threads: []}
    for round_ in range(args.rounds):
        for threads, values in bandwidth.items():
            values.append(read_bandwidth(threads))
        for work in args.work:
            for worker in workers:
                if worker.error or (
                    work == "2x32" and worker.name not in ("CTranslate2", "tinyzh")
                ):
                    continue
                if work != "1" and worker.name == "llama2.c":
                    continue
                answer = worker.measure(work)
                if "error" in answer:
                    errors[f"{worker.name} {worker.dtype} {WORK[work]}"] = answer["error"]
                    continue
                key = (worker.name, worker.dtype, work)
                found.setdefault(key, []).append(answer["tokens_per_second"])
                say(f"round {round_ + 1}: {' '.join(key)}: {answer['tokens_per_second']:.0f}")
    for worker in workers:
        worker.close()
    starts: dict[str, list[float]] = {}
    for _ in range(args.rounds + 1):  # the first one warms the caches
        for name in STARTS:
            if name in args.engines and (seconds := start_up(name, args)) is not None:
                starts.setdefault(name, []).append(seconds)
    return {
        "machine": {"processor": processor(), "threads": args.threads, "rounds": args.rounds},
        "read_bytes_per_second": {str(t): statistics.median(v) for t, v in bandwidth.items()},
        "tokens_per_second": [
            {"engine": e, "dtype": d, "work": w, "median": statistics.median(v), "all": v}
            for (e, d, w), v in found.items()
        ],
        "start_seconds": {name: statistics.median(v[1:]) for name, v in starts.items()},
        "errors": errors,
    }


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def table(result: dict[str, Any]) -> str:
    """Markdown: a row for each engine and type of weights."""
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for item in result["tokens_per_second"]:
        rows.setdefault((item["engine"], item["dtype"]), {})[item["work"]] = item["median"]
    machine, read = result["machine"], result["read_bytes_per_second"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads; tokens a second, medians of "
        f"{machine['rounds']} alternating rounds; memory read in the same run at "
        + ", ".join(f"{v * 1e-9:.1f} GB/s ({t} threads)" for t, v in read.items()),
        "",
        "| engine | weights | " + " | ".join(WORK.values()) + " |",
        "|---|---|" + "---:|" * len(WORK),
    ]
    for (engine, dtype), values in rows.items():
        cells = (f"{values[w]:,.0f}" if w in values else "–" for w in WORK)
        lines.append(f"| {engine} | {dtype} | " + " | ".join(cells) + " |")
    lines += ["", "Fresh process to the first token, fp32 file: "]
    lines[-1] += ", ".join(f"{n} {s:.2f} s" for n, s in result["start_seconds"].items())
    lines += [f"\nNot measured: {what}: {why}" for what, why in result["errors"].items()]
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.neighbours",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--work", nargs="+", choices=list(WORK), default=list(WORK))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama2c", type=Path, help="llama2.c's `run`")
    parser.add_argument("--cache", type=Path, help="folder for converted models")
    parser.add_argument("--out", type=Path, help="folder for results.json and results.md")
    args = parser.parse_args()
    args.cache = args.cache or Path(tempfile.gettempdir()) / "tinyzh-neighbours"
    args.cache.mkdir(parents=True, exist_ok=True)
    result = run(args)
    text = table(result)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "results.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
