"""What the tests of the command line share: results, and the program's environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tinyzh

#: To be followed by the arguments.
PROGRAM = [sys.executable, "-m", "tinyzh"]


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


def environment(**changes: str) -> dict[str, str]:
    """This process's, with the package on the path and nothing that steers colours or Python."""
    package = Path(tinyzh.__file__).parents[1]
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("LC_", "LANG", "NO_COLOR", "PYTHON"))
    }
    return {**kept, "PYTHONPATH": str(package), "TERM": "xterm", **changes}


def one_line(result: Result) -> str:
    """The error's text; it is one line, and nothing else is on standard error."""
    assert result.err.startswith("tinyzh: error: "), result.err
    assert result.err.count("\n") == 1, result.err
    return result.err.removeprefix("tinyzh: error: ").rstrip("\n")
