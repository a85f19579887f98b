"""A text that several generations continue one after another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import FileMissing, GenerationError
from .generation import Generation
from .tokenizer import continue_with

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Session"]


class Session:
    """A conversation, or a story told in turns.  Made by ``Model.session`` or ``Session.load``.

    It is its list of tokens and nothing else.  What has been computed of them stays in the model's
    cache as long as there is room, and is computed again when it is needed and not there any more:
    an idle session costs nothing that others need, and any number of them may be open.
    """

    def __init__(self, model: Model, ids: Sequence[int]) -> None:
        self._model = model
        self._ids = list(ids)
        self._speaking: Generation | None = None
        self._lock = RLock()  # for turns on several threads

    # ---- turns --------------------------------------------------------------------------------

    def say(self, text: str = "", *, overflow: str = "shift", **options: Any) -> Generation:
        """Adds a text and continues from there; the continuation becomes part of the session.

        Args:
            text: encoded by itself: no BOS, no space put in front, never merged with what is there;
                the first text of an empty session as that of ``Model.generate``.
            overflow: as for ``Model.generate``; ``shift`` lets the session go on for ever.
            options: as for ``Model.generate``.

        Raises:
            GenerationError: the last continuation is still running.
            ContextFull: with ``overflow="stop"``, the text does not fit the context any more.
        """
        with self._lock:
            ids = self._finished_ids()
            if text:
                tokenizer = self._model.tokenizer
                begins = ids == tokenizer.encode("")
                ids = tokenizer.encode(text) if begins else ids + continue_with(tokenizer, text)
            generation = self._model.generate(ids, overflow=overflow, **options)
            self._ids, self._speaking = ids, generation
            return generation

    @property
    def token_ids(self) -> list[int]:
        """All tokens so far: what was given, what was said, what was continued."""
        with self._lock:
            if self._speaking is None:
                return list(self._ids)
            over = self._speaking.finish_reason is not None  # asked first: then no token follows
            ids = self._ids + self._speaking.token_ids
            if over:
                self._ids, self._speaking = list(ids), None
            return ids

    @property
    def text(self) -> str:
        """The text of all tokens so far."""
        return self._model.tokenizer.decode(self.token_ids)

    def fork(self) -> Session:
        """Another session that begins with the same tokens; what is computed of them is shared.

        Raises:
            GenerationError: a continuation is still running.
        """
        return Session(self._model, self._finished_ids())

    def _finished_ids(self) -> list[int]:
        with self._lock:
            ids = self.token_ids
            if self._speaking is None:
                return ids
        raise GenerationError(
            "the session's last continuation is still running: wait for it or cancel it"
        )

    # ---- files --------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the session to a small file, all of it or nothing (docs/engine.md).

        Raises:
            GenerationError: a continuation is still running.
            FileError: the file cannot be written.
        """
        _core.save_session(os.fsencode(path), self._model.fingerprint, self._finished_ids())

    @classmethod
    def load(cls, model: Model, path: str | os.PathLike[str]) -> Session:
        """A session from a file that ``save`` wrote, for the same model.

        Raises:
            FileMissing, FileError: the file cannot be read.
            InvalidArgument: it is not a session, is damaged, or belongs to another model or to
                other numerics, with which the same tokens would go on differently.
        """
        if not os.path.exists(path):
            raise FileMissing(f"{os.fspath(path)}: no such file")
        ids = _core.load_session(os.fsencode(path), model.fingerprint)
        return cls(model, model._checked("token_ids", ids))

    def __repr__(self) -> str:
        state = "speaking" if self._speaking is not None else "idle"
        return f"<Session {state}, {len(self.token_ids)} tokens>"
