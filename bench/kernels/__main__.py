"""Builds the extension, runs bench/test_kernels.py, and leaves its figures and a table.

Needs tinyzh installed from this checkout, with its test extra, pybind11 and cmake.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from bench.command import leave
from bench.neighbours.limits import processor

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path) -> None:
    """The extension ``_kernels`` in this folder."""
    pybind = subprocess.check_output(
        [sys.executable, "-m", "pybind11", "--cmakedir"], text=True
    ).strip()
    options = ["-DTINYZH_BUILD_BENCH=ON", "-DTINYZH_BUILD_LIBRARY=OFF", f"-Dpybind11_DIR={pybind}"]
    options.append(f"-DPython_EXECUTABLE={sys.executable}")
    subprocess.run(["cmake", "-S", str(ROOT), "-B", str(folder), *options], check=True)
    subprocess.run(["cmake", "--build", str(folder), "--target", "_kernels"], check=True)


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['machine']}, {result['date']}; one thread; median of {result['rounds']} rounds",
        "",
        "| operation | type | set | shape | µs | GB/s | G operations/s | % of peak |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    for case in result["cases"]:
        info = case["extra_info"]
        figures = [f"{info['microseconds']:,.2f}"]
        for name in ("gigabytes_per_second", "giga_operations_per_second"):
            figures.append(f"{info[name]:,.1f}" if name in info else "–")
        share = info.get("percent_of_peak")
        figures.append(f"{share:.0f} ({info['peak']})" if share is not None else "–")
        words = [info[name] for name in ("operation", "dtype", "isa", "shape")]
        lines.append("| " + " | ".join([*words, *figures]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kernels", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--out", type=Path, help="folder for kernels.json and kernels.md")
    parser.add_argument("-k", default="", help="only the benchmarks that pytest's -k chooses")
    args = parser.parse_args()
    if importlib.util.find_spec("_kernels") is None:
        build(args.build)
    path = os.pathsep.join(filter(None, [str(args.build), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "pytest", "-q", "bench/test_kernels.py", "-k", args.k]
        command += ["--benchmark-enable", f"--benchmark-json={figures}", "--benchmark-quiet"]
        environment = {**os.environ, "PYTHONPATH": path, "TINYZH_BENCH_ROUNDS": str(args.rounds)}
        subprocess.run(command, check=True, cwd=ROOT, env=environment)
        cases = json.loads(figures.read_text())["benchmarks"]
    result = {
        "machine": processor(),
        "date": date.today().isoformat(),
        "rounds": args.rounds,
        "cases": [{"name": c["name"], "extra_info": c["extra_info"]} for c in cases],
    }
    leave(args.out, "kernels", result, table(result))


if __name__ == "__main__":
    main()
