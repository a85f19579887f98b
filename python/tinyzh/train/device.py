"""Where a model is trained: the device, its number types, and the processes of torchrun."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist

from .config import Training
from .errors import TrainingError

__all__ = ["Workers", "autocast", "choose_device", "first_words", "memory_named", "resolve"]

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_OTHER_GONE = re.compile(r"(?i)connection (closed|reset) by peer|remote process exited")
_NO_MEMORY = re.compile(r"(?i)allocate memory|out of memory|overflow")


class Workers:
    """The processes of one training, one for each device: a single one without torchrun."""

    def __init__(self, device: str = "auto") -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        #: of this process
        self.device = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def first(self) -> bool:
        """Whether this process is the one that reports and saves."""
        return self.rank == 0

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Connected to the others inside of the block.

        Raises:
            TrainingError: another one has ended, for a reason of which only that one knows.
        """
        if self.count > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _OTHER_GONE.search(str(error)):
                raise
            raise TrainingError("another process of this run has ended, and has said why") from None
        finally:
            if self.count > 1:
                dist.destroy_process_group()

    def largest(self, *values: float) -> list[float]:
        """Of each value, the largest that any process has."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def mean(self, value: float) -> float:
        """Of a value that each process has."""
        return self._reduced([value], dist.ReduceOp.SUM)[0] / self.count

    def _reduced(self, values: Sequence[float], how: Any) -> list[float]:
        if self.count == 1:
            return list(values)
        common = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(common, op=how)
        result: list[float] = common.tolist()
        return result


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of that name; ``auto`` is the best one there is."""
    if name == "auto":
        if torch.cuda.is_available():
            name = "cuda"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda", "mps"):
            raise RuntimeError("not one to train on")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise TrainingError(
            f"device is {name!r}: {first_words(error)}; device=auto takes one that is here"
        ) from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def resolve(training: Training, device: torch.device) -> Training:
    """The same settings with ``auto`` replaced by what the device can do.

    ``compile`` stays ``auto`` where it may succeed: to know takes an attempt.
    """
    precision, compiled = training.precision, training.compile
    if precision == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            precision = "bfloat16" if native else "float16"
        else:
            able = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16")
            precision = "bfloat16" if able else "float32"
    if precision == "float16" and device.type == "cpu":
        raise TrainingError("precision is float16, which is for GPUs: use bfloat16 or float32")
    if compiled == "auto":
        compilers = (os.environ.get("CXX", "g++"), "clang++")
        able = device.type == "cuda" or (device.type == "cpu" and any(map(shutil.which, compilers)))
        compiled = "auto" if able else "no"
    return dataclasses.replace(training, precision=precision, compile=compiled, device=str(device))


def autocast(training: Training, device: torch.device) -> AbstractContextManager[object]:
    """Products in the precision of the settings; weights, norms and sums stay fp32."""
    if training.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, _TYPES[training.precision])


def first_words(error: Exception) -> str:
    """What is wrong, in a line: some of PyTorch's messages fill a screen."""
    lines = str(error).strip().splitlines()
    line = lines[0].partition(". ")[0].rstrip(".:") if lines else ""
    return textwrap.shorten(line, 160, placeholder=" …") or type(error).__name__


def lacks_memory(error: Exception) -> bool:
    """Whether that is why; PyTorch says it in as many ways as it has devices."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    plain = isinstance(error, RuntimeError) and not isinstance(error, TrainingError)
    return plain and bool(_NO_MEMORY.search(str(error)))


@contextlib.contextmanager
def memory_named(training: Training) -> Iterator[None]:
    """Too little memory in the block becomes an error that says what to do."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        t = training
        raise TrainingError(
            f"out of memory: the model and a batch of {t.batch} × {t.length} tokens do not fit; "
            f"set accumulate={2 * t.accumulate} to compute it in parts, or a smaller batch or model"
        ) from None
