"""What every use of an open model needs: its engine, and token ids that it takes."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ._core import Engine, Request
from ._core import Model as Core
from .config import Config
from .errors import ContextFull, GenerationError, InvalidArgument, QueueFull, TokenizerError
from .generation import Generation
from .sampling import checked_integer, checked_number
from .special import Special
from .tokenizer import Tokenizer

__all__ = ["Opened", "checked_service", "import_numpy", "when_there_is_room"]

_Request = TypeVar("_Request", Generation, Request)


class Opened:
    """The part of :class:`tinyzh.Model` on which the others stand."""

    _core: Core
    _engine: Engine
    _config: Config
    _special: Special
    _tokenizer: Tokenizer | None
    _closed: bool
    _process: int  #: in which it was opened

    @property
    def config(self) -> Config:
        """The model's shape."""
        return self._config

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer: ``encode``, ``decode``, ``pieces``.

        Raises:
            TokenizerError: the model was opened without one.
        """
        if self._tokenizer is None:
            raise TokenizerError("this model was opened with tokenizer=False: pass token ids")
        return self._tokenizer

    @property
    def special(self) -> Special:
        """The tokens that begin and end a text."""
        return self._special

    def _ids(self, prompt: str | Sequence[int]) -> list[int]:
        if not isinstance(prompt, str):
            return self._checked("prompt", prompt)
        if self._tokenizer is None:
            raise TokenizerError("this model was opened with tokenizer=False: pass token ids")
        return self._tokenizer.encode(prompt)

    def _checked(self, name: str, ids: Sequence[int]) -> list[int]:
        """Token ids as a list, each of them in the vocabulary."""
        try:
            if isinstance(ids, (str, bytes, bytearray)):
                raise TypeError
            checked = [operator.index(i) for i in ids]
        except TypeError:
            kind = "a string or a list of token ids" if name == "prompt" else "a list of token ids"
            raise InvalidArgument(f"{name} is {ids!r:.100}: expected {kind}") from None
        last = self._config.vocab_size - 1
        for position, token in enumerate(checked):
            if not 0 <= token <= last:
                raise InvalidArgument(
                    f"token {position} of {name} is {token}: expected an id from 0 to {last}"
                )
        return checked

    def _fitting(self, text: str | Sequence[int], least: int = 1) -> list[int]:
        """Checked token ids that fit the context, before memory is taken for a result."""
        self._check_usable()
        ids = self._ids(text) if isinstance(text, str) else self._checked("ids", text)
        if len(ids) < least:
            raise InvalidArgument(f"ids is {ids}: expected at least {least} token id")
        if len(ids) > (context := self._config.seq_len):
            raise ContextFull(f"{len(ids)} tokens do not fit the model's context of {context}")
        import_numpy()
        return ids

    def _check_usable(self) -> None:
        if self._closed:
            raise GenerationError("the model is closed: open it again")
        if self._process != os.getpid():
            raise GenerationError(
                "this model was opened before the process forked, and its threads are not here: "
                "open it in the child"
            )


def when_there_is_room(submit: Callable[[], _Request], running: Sequence[_Request]) -> _Request:
    """What ``submit`` returns, waiting while the queue is full."""
    while True:
        try:
            return submit()
        except QueueFull:
            unfinished = next((r for r in running if r.finish_reason is None), None)
            if isinstance(unfinished, Generation):
                unfinished.wait(0.1)
            elif unfinished is not None:
                unfinished.wait(0, 0.1)
            else:  # all that wait are someone else's
                time.sleep(0.005)


def checked_service(timeout: float | None, priority: int) -> tuple[float | None, int]:
    """The checked values."""
    if timeout is not None:
        timeout = checked_number("timeout", timeout, 0, 1e9)
    return timeout, checked_integer("priority", priority, -1000, 1000)


def import_numpy() -> None:
    """Before the core does, at its first array.

    Importing runs Python, and a daemon thread that runs Python when the interpreter goes is killed:
    no harm, unless there is C++ further up on its stack.
    """
    import numpy  # noqa: F401
