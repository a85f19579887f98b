"""What the machine can do: bytes a second from memory, measured beside the engines."""

from __future__ import annotations

import platform
import threading
import time
from pathlib import Path

import numpy as np

MEGABYTES = 256


def read_bandwidth(threads: int) -> float:
    """Bytes a second that so many threads read from memory together, the best of three."""
    arrays = [np.ones(MEGABYTES * 2**20 // 8, np.int64) for _ in range(threads)]
    best = 0.0
    for _ in range(3):
        workers = [threading.Thread(target=array.max) for array in arrays]
        start = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, threads * arrays[0].nbytes / (time.perf_counter() - start))
    return best


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
