"""The story model that comes with the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MODEL", "TOKENIZER"]

MODEL = Path(__file__).parent / "data" / "story.bin"
TOKENIZER = MODEL.with_name("story.tokenizer.bin")
