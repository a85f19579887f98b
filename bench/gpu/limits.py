"""What a GPU can do at best, from what its driver says of it: bytes and operations a second."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from tinyzh import Config, devices

#: Operations (a multiply-add is two) of 16-bit tensor cores with fp32 sums, per clock and
#: multiprocessor, by compute capability; the maker's tables.
TENSOR_OPERATIONS = {
    (7, 5): 1024,
    (8, 0): 2048,
    (8, 6): 512,
    (8, 9): 512,
    (9, 0): 4096,
    (10, 0): 8192,
    (12, 0): 512,
}
#: Bytes of a weight; int8 and int4 with their scales.
WEIGHT_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "int8": 1.0625, "int4": 0.59375}
KV_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 2, "int4": 2}


@dataclass(frozen=True)
class Properties:
    """One GPU."""

    name: str
    compute_capability: tuple[int, int]
    memory: int  #: bytes
    multiprocessors: int
    clock: float  #: Hz
    bandwidth: float  #: bytes a second from its memory

    @property
    def tensor_operations(self) -> float | None:
        """16-bit operations a second; None: not in the table."""
        of_clock = TENSOR_OPERATIONS.get(self.compute_capability)
        return of_clock * self.multiprocessors * self.clock if of_clock else None


def properties(index: int = 0) -> Properties:
    """Of a GPU, from NVIDIA's driver.

    Raises:
        RuntimeError: there is none.
    """
    found = devices.find_cuda()
    if not found.gpus:
        raise RuntimeError(f"no GPU: {found.problem}")
    driver = devices.open_driver()
    assert driver is not None  # find_cuda opened it
    gpu, device = found.gpus[index], ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    # CU_DEVICE_ATTRIBUTE_CLOCK_RATE, _MULTIPROCESSOR_COUNT, _MEMORY_CLOCK_RATE (kHz), _BUS_WIDTH
    clock, count, memory_clock, bus = (attribute(number) for number in (13, 16, 36, 37))
    bandwidth = 2.0 * memory_clock * 1000 * bus / 8
    return Properties(
        gpu.name, gpu.compute_capability, gpu.memory, count, clock * 1000.0, bandwidth
    )


def matrix_weights(config: Config) -> int:
    """Weights that a token multiplies: every matrix, the classifier too."""
    c = config
    of_layer = 2 * c.dim * c.dim + 2 * c.dim * c.kv_dim + 3 * c.dim * c.hidden_dim
    return c.n_layers * of_layer + c.vocab_size * c.dim


def step_seconds(
    gpu: Properties, config: Config, dtype: str, streams: int, positions: float
) -> dict[str, float | None]:
    """What a step of so many streams takes at least, each at so many positions: for reading the
    weights once and the keys and values of all, and for the arithmetic of 16-bit types."""
    weights = matrix_weights(config)
    kv = 2 * config.n_layers * config.kv_dim * KV_BYTES[dtype] * positions * streams
    operations = 2.0 * weights * streams
    tensor = gpu.tensor_operations if dtype in ("float16", "bfloat16") else None
    return {
        "memory": (weights * WEIGHT_BYTES[dtype] + kv) / gpu.bandwidth,
        "arithmetic": operations / tensor if tensor else None,
    }


def tokens_per_second(
    gpu: Properties, config: Config, dtype: str, streams: int, positions: float
) -> float:
    """The nearer one of the two limits."""
    seconds = step_seconds(gpu, config, dtype, streams, positions)
    return streams / max(s for s in seconds.values() if s is not None)
