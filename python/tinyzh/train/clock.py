"""The time that counts towards a budget of minutes."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Counts the time in which a run really gets on.

    A step that takes much longer than others do was stopped meanwhile: the machine slept, another
    program had it, PyTorch compiled. Of it, no more counts than of three ordinary ones.
    """

    def __init__(self, trained: float) -> None:
        self.trained = trained  #: seconds
        self._recent: list[float] = []
        self._began = 0.0

    def start(self) -> None:
        """A step begins."""
        self._began = time.monotonic()

    def stop(self) -> float:
        """It has ended; returns what it counts for."""
        seconds = time.monotonic() - self._began
        counted = min(seconds, 3 * self._typical()) if self._recent else 0.0
        self._recent = [*self._recent[-30:], seconds]
        self.trained += counted
        return counted

    def _typical(self) -> float:
        return sorted(self._recent)[(len(self._recent) - 1) // 2]
