"""Each kernel by itself: operation, type, instruction set and shape, beside the machine's limits.

Matrices and caches come from memory, as in a decoding step: repetitions take one copy after
another, together more than the caches hold.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

import pytest

from .timing import median, only_called

kernels = pytest.importorskip("_kernels", reason="built by python -m bench.kernels")

ROUNDS = int(os.environ.get("TINYZH_BENCH_ROUNDS", "9"))
FOOTPRINT = 256 << 20
SECONDS = 0.02  # of a round, about
ISAS = kernels.instruction_sets()
SHAPES = [(768, 768), (2268, 768), (768, 2268), (3000, 768)]


def rate(work: Any, amount: float) -> float:
    """Of so much a run, the best of five."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        work.run(1)
        best = min(best, time.perf_counter() - start)
    return amount / best


@cache
def bandwidth() -> float:
    work = kernels.read(FOOTPRINT)
    return rate(work, work.bytes)


@cache
def most_operations(isa: str, int8: bool) -> float:
    """0 where no loop is written for this set."""
    work = kernels.peak(isa, int8)
    return rate(work, work.operations) if work.operations else 0.0


def measure(benchmark: Any, work: Any, int8: bool = False, **case: str) -> None:
    """Times it, and says which limit is nearer: what was read, or what was multiplied."""
    info = benchmark.extra_info
    info.update(case)
    if benchmark.disabled:
        benchmark.pedantic(work.run, args=(1,))
        return
    work.run(1)
    start = time.perf_counter()
    work.run(1)
    repetitions = max(1, int(SECONDS / (time.perf_counter() - start)))
    benchmark.pedantic(work.run, args=(repetitions,), rounds=ROUNDS, warmup_rounds=1)
    seconds = median(benchmark) / repetitions
    info["microseconds"] = seconds * 1e6
    shares = []
    if work.bytes:
        info["gigabytes_per_second"] = work.bytes / seconds * 1e-9
        shares.append((100 * work.bytes / seconds / bandwidth(), "memory"))
    if work.operations:
        info["giga_operations_per_second"] = work.operations / seconds * 1e-9
        if peak := most_operations(case["isa"], int8):
            kind = "int8" if int8 else "fp32"
            shares.append((100 * work.operations / seconds / peak, kind))
    if shares:
        info["percent_of_peak"], info["peak"] = max(shares)


def footprint(config: pytest.Config) -> int:
    return 0 if only_called(config) else FOOTPRINT


@pytest.mark.parametrize("columns", [1, 4, 16, 64])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
@pytest.mark.parametrize("isa", ISAS)
def test_matmul(
    benchmark: Any,
    pytestconfig: pytest.Config,
    isa: str,
    dtype: str,
    shape: tuple[int, int],
    columns: int,
) -> None:
    if isa == "scalar" and (shape != SHAPES[0] or columns > 4):
        pytest.skip("scalar is the definition, not meant to be fast")
    rows, cols = (48, 80) if only_called(pytestconfig) else shape
    work = kernels.matmul(isa, dtype, rows, cols, columns, footprint(pytestconfig))
    name = f"{rows}x{cols}, {columns}"
    measure(
        benchmark, work, dtype != "float32", operation="matmul", dtype=dtype, isa=isa, shape=name
    )


@pytest.mark.parametrize(("rows", "position"), [(1, 50), (1, 200), (1, 700), (8, 200)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("isa", ISAS)
def test_attention(
    benchmark: Any, pytestconfig: pytest.Config, isa: str, dtype: str, rows: int, position: int
) -> None:
    """The twelve heads of a layer."""
    if isa == "scalar" and position > 50:
        pytest.skip("scalar is the definition, not meant to be fast")
    work = kernels.attention(isa, dtype, 12, 64, position, rows, footprint(pytestconfig))
    name = f"12 heads of 64, position {position}, {rows}"
    measure(benchmark, work, operation="attention", dtype=dtype, isa=isa, shape=name)


@pytest.mark.parametrize(
    ("operation", "n"), [("rmsnorm_quantise", 768), ("swiglu", 2268), ("draw", 3000)]
)
@pytest.mark.parametrize("isa", ISAS)
def test_vector(benchmark: Any, isa: str, operation: str, n: int) -> None:
    work = kernels.vector(isa, operation, n)
    measure(benchmark, work, operation=operation, dtype="float32", isa=isa, shape=str(n))


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("isa", ISAS)
def test_quantise(benchmark: Any, pytestconfig: pytest.Config, isa: str, dtype: str) -> None:
    """What opening a float32 file as int8 or int4 does with a matrix."""
    rows, cols = (48, 96) if only_called(pytestconfig) else (768, 768)
    work = kernels.quantise(isa, dtype, rows, cols)
    measure(benchmark, work, operation="quantise", dtype=dtype, isa=isa, shape=f"{rows}x{cols}")
