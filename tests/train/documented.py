"""The commands of docs/training.md."""

from __future__ import annotations

import shlex
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The ten, each as its arguments."""
    block = PAGE.split("## In ten commands")[1].split("```")[1]
    return [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("tinyzh ")]
