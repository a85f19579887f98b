"""Where a command's words go: UTF-8 whatever the locale, colours and progress only for people."""

from __future__ import annotations

import io
import os
import sys
import time
from typing import TextIO

from .arguments import columns

__all__ = ["Bar", "Terminal", "as_utf8"]

_PATIENCE = 0.5  # seconds before work is worth a bar
_BETWEEN = 0.05  # seconds between two looks of it
_BAR = 24  # characters
_NAME = 28  # columns

_STYLES = {"": "", "bold": "\x1b[1m", "dim": "\x1b[2m"}
_RESET = "\x1b[0m"
_ERASE_LINE = "\r\x1b[K"

# A model's text must not steer the terminal: of the control characters only tab and newline pass.
_CONTROLS = {c: None for c in (*range(0x20), *range(0x7F, 0xA0)) if chr(c) not in "\t\n"}


def as_utf8(stream: TextIO | None) -> TextIO:
    """The stream, set to write UTF-8 and plain newlines; a dummy for one that is closed."""
    if stream is None:
        return io.StringIO()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    return stream


class Terminal:
    """Standard output and standard error of one command."""

    def __init__(self) -> None:
        self._out = as_utf8(sys.stdout)
        self._err = as_utf8(sys.stderr)
        self._for_people = self._out.isatty()
        self._progress_shown = False
        self.colored = False  #: set by :meth:`choose_color`
        self.line_open = False  #: standard output stands in the middle of a line

    def choose_color(self, mode: str) -> None:
        """``auto`` is for a terminal that can, unless NO_COLOR is set; ``always`` and ``never``."""
        able = self._for_people and os.environ.get("TERM") != "dumb"
        self.colored = mode == "always" or (
            mode == "auto" and able and not os.environ.get("NO_COLOR")
        )

    def write(self, text: str, style: str = "") -> None:
        """Writes to standard output and sends it off at once."""
        if not text:
            return
        if self._for_people:
            text = text.translate(_CONTROLS)
        self.line_open = not text.endswith("\n")
        if self.colored and style:
            text = f"{_STYLES[style]}{text}{_RESET}"
        self._out.write(text)
        self._out.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """Writes a line to standard output."""
        self.write(text, style)
        self._out.write("\n")
        self._out.flush()
        self.line_open = False

    def flush(self) -> None:
        """Sends off what others have written to standard output."""
        self._out.flush()

    def end_line(self) -> None:
        """Makes sure that what follows begins on a fresh line."""
        self.progress("")
        if self.line_open:
            self.line()

    def note(self, text: str) -> None:
        """Writes a line to standard error."""
        self.progress("")
        self._err.write(text + "\n")
        self._err.flush()

    def progress(self, text: str) -> None:
        """Shows a passing line on standard error if that is a terminal; an empty one removes it."""
        if not self._err.isatty() or not (text or self._progress_shown):
            return
        self._err.write(_ERASE_LINE + text)
        self._err.flush()
        self._progress_shown = bool(text)

    def bar(self, name: str) -> Bar:
        """A bar that passes as :meth:`progress` does, for work that has a known size."""
        return Bar(self, name)

    def interrupted(self) -> None:
        """After Ctrl-C: the shell's prompt gets a line of its own."""
        if self.line_open:
            self.line()
        elif self._err.isatty():
            self._err.write("\n")
            self._err.flush()


class Bar:
    """How far something is that has several stages; nothing, where that is soon over."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self._terminal = terminal
        self._name = name
        while columns(self._name) > _NAME:
            self._name = f"…{self._name[2:]}"
        self._first, self._last = time.monotonic(), float("-inf")
        self._stage, self._begun = "", self._first

    def __call__(self, done: int, total: int, stage: str) -> None:
        """Shows ``done`` of ``total``, of whatever kind, of one stage."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun = stage, now
        soon = now - self._last < _BETWEEN and done < total
        if now - self._first <= _PATIENCE or soon or total == 0:
            return
        self._last = now
        full = done * _BAR // total
        left = f" {(now - self._begun) * (total - done) / done:.0f} s left" if done else ""
        bar = "█" * full + "░" * (_BAR - full)
        self._terminal.progress(f"{self._name}: {stage} {bar} {done / total:4.0%}{left}")

    def over(self) -> None:
        """Takes it away."""
        self._terminal.progress("")
