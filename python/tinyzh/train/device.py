"""Where a model is trained: the device, its number types, and the processes of torchrun."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor

from .config import Training
from .errors import TrainingError

__all__ = ["Workers", "autocast", "choose_device", "resolve"]

_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Workers:
    """The processes of one training: one for each device; a single one without torchrun."""

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def first(self) -> bool:
        """Whether this process is the one that reports and saves."""
        return self.rank == 0

    @contextlib.contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Connected to the others inside of the block."""
        if self.count > 1:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield
        finally:
            if self.count > 1:
                dist.destroy_process_group()

    def agree(self, trained: float, stop: bool, device: torch.device) -> tuple[float, bool]:
        """The first process's clock, and whether any of them was asked to stop."""
        if self.count == 1:
            return trained, stop
        common = torch.tensor([trained if self.first else 0.0, float(stop)], dtype=torch.float64)
        common = common.to(device)
        dist.all_reduce(common, op=dist.ReduceOp.MAX)
        return float(common[0]), bool(common[1] > 0)

    def mean(self, value: Tensor) -> Tensor:
        """Of a value that each process has."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.count
        return value


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of that name; ``auto`` is the best one there is."""
    if name == "auto":
        if torch.cuda.is_available():
            name = f"cuda:{local_rank}"
        else:
            name = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(
            f"device is {name!r}: {reason}; device=auto takes one that is here"
        ) from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def resolve(training: Training, device: torch.device) -> Training:
    """The same settings with every ``auto`` replaced by what the device can do."""
    precision, compiled = training.precision, training.compile
    if precision == "auto":
        if device.type == "cuda":
            precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        else:
            native = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16")
            precision = "bfloat16" if native else "float32"
    if precision == "float16" and device.type == "cpu":
        raise TrainingError("precision is float16, which is for GPUs: use bfloat16 or float32")
    if compiled == "auto":
        compilers = (os.environ.get("CXX", "g++"), "clang++")
        able = device.type == "cuda" or (device.type == "cpu" and any(map(shutil.which, compilers)))
        compiled = "yes" if able else "no"
    return dataclasses.replace(training, precision=precision, compile=compiled, device=str(device))


def autocast(training: Training, device: torch.device) -> AbstractContextManager[object]:
    """Products in the precision of the settings; weights, norms and sums stay fp32."""
    if training.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, _TYPES[training.precision])
