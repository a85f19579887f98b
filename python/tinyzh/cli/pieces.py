"""Tokens made visible."""

from __future__ import annotations

from ..special import BOS, EOS

__all__ = ["visible"]


def visible(data: bytes, kind: str, token: int) -> str:
    """A piece as one word: a space is ▁, a byte token <0xE4>, a control character its escape."""
    if kind == "control":
        return {BOS: "<s>", EOS: "</s>"}.get(token, f"<control {token}>")
    if kind == "byte":
        return f"<0x{data[0]:02X}>"
    if kind == "unknown":
        return data.decode("utf-8", "replace").strip() or "<unk>"
    text = data.decode("utf-8", "backslashreplace").replace(" ", "▁")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
