"""What a model can be computed on, and what is there of it."""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass, field

from . import _core
from .errors import BackendError

__all__ = ["Cuda", "Gpu", "find_cuda", "open_driver", "resolve_device"]

_DRIVERS = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")


@dataclass(frozen=True)
class Gpu:
    """One GPU that NVIDIA's driver knows."""

    name: str
    memory: int  #: bytes
    compute_capability: tuple[int, int]


@dataclass(frozen=True)
class Cuda:
    """NVIDIA's driver, as it was found."""

    driver: str | None  #: the newest version of CUDA that it runs, "12.4"; None: no driver
    gpus: list[Gpu] = field(default_factory=list)
    problem: str | None = None  #: why there is nothing to compute on


def open_driver() -> ctypes.CDLL | None:
    """NVIDIA's driver; None: it is not there."""
    for name in _DRIVERS:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def find_cuda() -> Cuda:
    """Asks the driver, which is opened for that and need not be there."""
    driver = open_driver()
    if driver is None:
        return Cuda(None, [], f"no driver: {_DRIVERS[0]} is not there")
    if (code := driver.cuInit(0)) != 0:
        return Cuda(None, [], f"the driver does not start: cuInit gave {code}")
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    gpus = [_gpu(driver, i) for i in range(count.value)]
    number = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return Cuda(number, gpus, None if gpus else "the driver knows no GPU")


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        return value.value

    major, minor = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
    return Gpu(name.value.decode(), memory.value, (attribute(major), attribute(minor)))


def resolve_device(asked: str | None) -> str:
    """``cpu`` or ``cuda``: what was asked for, what ``auto`` means here; None: TINYZH_DEVICE.

    Raises:
        BackendError: an unknown device, or one that this build does not have.
    """
    name = "device"
    if asked is None:
        name, asked = "TINYZH_DEVICE", os.environ.get("TINYZH_DEVICE") or "cpu"
    if asked == "auto":
        return "cuda" if "cuda" in _core.devices() and find_cuda().gpus else "cpu"
    if asked == "cpu":
        return "cpu"
    if asked == "cuda":
        if "cuda" not in _core.devices():
            raise BackendError(
                f"{name} is 'cuda': this build has no CUDA in it; take device='cpu' or 'auto', or "
                "build with TINYZH_CUDA=1 (docs/cuda.md; tinyzh doctor shows what is there)"
            )
        return "cuda"
    raise BackendError(f"{name} is {asked!r:.100}: expected cpu, cuda or auto")
