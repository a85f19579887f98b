"""The command line, called inside this process or as a program of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_program import PROGRAM, Cli, Result, environment
from tinyzh.cli import main


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """``cli("info", path)``: exit code, standard output and standard error."""

    def call(*arguments: str | Path) -> Result:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """``program("generate", ..., env={...})``: the command as a process; bytes in and out."""

    def call(
        *arguments: str | bytes | Path, env: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            env=environment(**(env or {})),
            capture_output=True,
            timeout=60,
            **options,
        )

    return call
