"""The tokens around a text: what begins it and what ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["BOS", "EOS", "LLAMA2C", "Special"]

BOS, EOS = 1, 2  # in llama2.c's files, which do not say


@dataclass(frozen=True)
class Special:
    """Which tokens begin and end a text."""

    bos: int = BOS  #: the beginning
    ends: tuple[int, ...] = (
        BOS,
        EOS,
    )  #: each of them ends a text; so does the next one's beginning
    add_bos: bool = True  #: whether a text is begun with ``bos``

    @classmethod
    def of(cls, bos: int, *ends: int, add_bos: bool = True) -> Special:
        """With ``bos`` among the ends."""
        return cls(bos, tuple(dict.fromkeys((bos, *ends))), add_bos)

    @property
    def eos(self) -> int:
        """The token that is put behind a text."""
        return next((i for i in self.ends if i != self.bos), self.bos)

    def around(self, ids: Sequence[int], bos: bool, eos: bool) -> list[int]:
        """The ids of a text with what belongs before and behind it, where that is asked for.

        Nothing at all is no beginning: a model needs a token to go on from.
        """
        before = [self.bos] if bos and (self.add_bos or not ids) else []
        return [*before, *ids, *([self.eos] if eos else [])]


LLAMA2C = Special()
