"""What the side-by-side benchmarks share: their command line, and what they leave behind."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any


def parser_of(
    name: str, description: str | None, rounds: int, results: str
) -> argparse.ArgumentParser:
    """With --threads, --rounds, --cache and --out."""
    parser = argparse.ArgumentParser(
        prog=f"python -m bench.{name}",
        description=description,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    default = Path(tempfile.gettempdir()) / "tinyzh-neighbours"
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--cache", type=Path, default=default, help="folder for converted models")
    parser.add_argument("--out", type=Path, help=f"folder for {results}.json and {results}.md")
    return parser


def leave(out: Path | None, results: str, result: dict[str, Any], text: str) -> None:
    """Prints the table, and writes it and the figures if there is a folder for them."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{results}.json").write_text(json.dumps(result, indent=1) + "\n")
        (out / f"{results}.md").write_text(text)
    print(text)
