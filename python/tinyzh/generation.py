"""One story under way: an iterator of text, synchronous or asynchronous."""

from __future__ import annotations

import contextlib
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

from .errors import GenerationError
from .postman import postman

if TYPE_CHECKING:
    import asyncio

    from . import _core
    from .postman import Reader

__all__ = ["Generation", "GenerationStats", "TokenLogprob"]

_NO_PIECE = 2**62  # an index that no piece will have: only the end ends a wait for it
_SLICE = 0.1  # seconds between two looks at Ctrl-C while waiting


@dataclass(frozen=True)
class TokenLogprob:
    """A token of the output with the log-probability the model gave it, before any filter."""

    token_id: int
    bytes: bytes  #: what it adds to the text, perhaps only a part of a character
    logprob: float
    top: list[tuple[int, float]]  #: (id, log-probability) of the n most probable tokens


@dataclass(frozen=True)
class GenerationStats:
    """Counts and times of one generation; times are None until they are known."""

    prompt_tokens: int
    new_tokens: int
    queue_seconds: float | None  #: from submission until the engine began
    time_to_first_token: float | None  #: seconds from submission
    seconds: float | None  #: from submission to the end
    tokens_per_second: float | None  #: after the first token
    logits_hash: int  #: FNV-1a of the last logits; equal bits give equal hashes; 0: drawn on a GPU


class _AsyncReader(AsyncIterator[str]):
    """What ``async for`` holds: let go of before the end, it cancels the generation, and at once.

    (An asynchronous generator would only do so some turns of the event loop later.)
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._ended = False

    async def __anext__(self) -> str:
        try:
            piece = await self._generation._next_async()
        except BaseException:  # the task was cancelled, or the generation failed
            self._generation.cancel()
            raise
        if piece is None:
            self._ended = True
            raise StopAsyncIteration
        return piece

    def __del__(self) -> None:
        if not self._ended:
            self._generation.cancel()


class Generation:
    """What ``Model.generate`` returns.  Made by the model only.

    Iterating gives text as it becomes certain, whole characters only; leaving the loop early
    cancels the rest.  ``async for`` does the same.  ``read()`` gives the rest at once.  The model
    runs ahead of its reader, so nothing is lost by reading late.  Several readers, threads or
    tasks, share the text: each piece goes to one of them.
    """

    def __init__(
        self,
        request: _core.Request,
        *,
        owner: object,
        deadline: float | None,
        pieces: list[bytes],
        seed: int,
        prompt_ids: list[int],
        echo: str,
    ) -> None:
        self._its_request = request
        self._process = os.getpid()
        self._owner: object | None = owner  # keeps the model alive until the end
        self._deadline = deadline  # on time.monotonic()'s clock
        self._token_bytes = pieces
        self._seed = seed
        self._prompt_ids = prompt_ids
        self._echo = echo
        self._taken = 0  # pieces taken from the request
        self._ready: deque[str] = deque([echo] if echo else [])
        self._over = False  # nothing more will come from the request
        # For readers on several threads: each piece goes to one of them.  One that was given up may
        # be collected and leave ``_waiting`` at any moment, also while its thread has the lock.
        self._lock = RLock()
        self._waiting: list[Reader] = []  # asynchronous ones
        self._key: int | None = None  # of that list, while it is not empty

    @property
    def _request(self) -> _core.Request:
        if self._process != os.getpid():
            raise GenerationError(
                "this generation runs in the process that this one was forked from: "
                "open the model again here and generate anew"
            )
        return self._its_request

    # ---- reading ------------------------------------------------------------------------------

    def _next(self, seconds: float) -> str | None:
        """The next piece, waited for up to ``seconds``; None: not there yet, or it is over."""
        with self._lock:
            if self._ready:
                return self._ready.popleft()
            taken = self._taken
        # Without the lock: who reads in a task must not stand still while a thread waits here.
        pieces, finish = self._request.wait(taken, seconds)
        with self._lock:
            if self._taken == taken:  # else another reader took them
                self._taken += len(pieces)
                self._ready.extend(pieces)
                if finish is not None:
                    self._over = True
                    self._owner = None
            return self._ready.popleft() if self._ready else None

    def _ended(self) -> bool:
        """Whether all has been read; raises what went wrong, if something did."""
        if not self._over or self._ready:
            return False
        self._request.raise_error()
        return True

    def __next__(self) -> str:
        _ = self._request  # raises in a forked child, where nobody might let go of the lock
        while (piece := self._next(_SLICE)) is None:
            if self._ended():
                raise StopIteration
        return piece

    def __iter__(self) -> Iterator[str]:
        ended = False
        try:
            while True:
                try:
                    piece = next(self)
                except StopIteration:
                    ended = True
                    return
                yield piece
        finally:
            if not ended:
                self.cancel()

    async def _next_async(self) -> str | None:
        """The next piece; None at the end."""
        if (piece := self._next(0)) is not None or self._ended():
            return piece
        import asyncio  # here, since it is slow to import and most programs do without

        loop, event = asyncio.get_running_loop(), asyncio.Event()
        reader = (loop, weakref.ref(event))
        try:
            with self._lock:
                self._waiting.append(reader)
                if self._key is None:
                    self._key = postman().add(self._waiting)
                    self._request.set_mailbox(postman().mailbox, self._key)
            while (piece := self._next(0)) is None and not self._ended():
                await self._woken(event)
                event.clear()
            return piece
        finally:
            with self._lock:
                self._waiting.remove(reader)
                if not self._waiting and self._key is not None:
                    self._request.set_mailbox(None, 0)
                    postman().remove(self._key)
                    self._key = None

    async def _woken(self, event: asyncio.Event) -> None:
        """Waits for the event, but not past the deadline: a request in the queue wakes nobody."""
        if self._deadline is None:
            await event.wait()
            return
        import asyncio

        left = max(0.001, self._deadline - time.monotonic())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(event.wait(), left)

    def __aiter__(self) -> AsyncIterator[str]:
        return _AsyncReader(self)

    def read(self) -> str:
        """The rest of the text, once it is all there."""
        parts = []
        while True:
            try:
                parts.append(next(self))
            except StopIteration:
                return "".join(parts)

    def __await__(self) -> Generator[Any, None, str]:
        """``await generation`` is its text, as ``aread`` gives it."""
        return self.aread().__await__()

    async def aread(self) -> str:
        """The rest of the text, awaited."""
        parts = []
        while (piece := await self._next_async()) is not None:
            parts.append(piece)
        return "".join(parts)

    # ---- looking ------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """All text so far, read or not; with ``echo`` the prompt comes first."""
        return self._echo + "".join(self._request.wait(0, 0)[0])

    @property
    def token_ids(self) -> list[int]:
        """Ids of the new tokens so far, without the BOS or EOS that ended them."""
        return self._request.tokens()

    @property
    def prompt_ids(self) -> list[int]:
        """Ids of the prompt, BOS first."""
        return list(self._prompt_ids)

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """One entry a token so far; empty unless ``logprobs`` was asked for."""
        return [
            TokenLogprob(
                token, self._token_bytes[token] if self._token_bytes else b"", logprob, top
            )
            for token, logprob, top in self._request.logprobs()
        ]

    @property
    def finish_reason(self) -> str | None:
        """``stop`` (story ended, stop string or token), ``length``, ``cancelled``, ``timeout``,
        ``error`` (reading raises it), or None while it runs."""
        return self._request.wait(_NO_PIECE, 0)[1]  # looks at the deadline too

    @property
    def seed(self) -> int:
        """The seed: the same one gives the same story again."""
        return self._seed

    @property
    def stats(self) -> GenerationStats:
        """Counts and times so far."""
        timing = self._request.timing()
        tokens = len(self._request.tokens())
        first, end = timing["first_token"], timing["finished"]
        speed = None
        if first is not None and end is not None and tokens > 1 and end > first:
            speed = (tokens - 1) / (end - first)
        return GenerationStats(
            prompt_tokens=len(self._prompt_ids),
            new_tokens=tokens,
            queue_seconds=timing["started"],
            time_to_first_token=first,
            seconds=end,
            tokens_per_second=speed,
            logits_hash=self._request.last_logits_hash,
        )

    # ---- ending -------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the generation is over; False if ``timeout`` seconds pass before that."""
        end = None if timeout is None else time.monotonic() + timeout
        while self.finish_reason is None:
            left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
            if left <= 0:
                return False
            self._request.wait(_NO_PIECE, left)
        self._owner = None
        return True

    def cancel(self) -> None:
        """Ends the generation now; the engine stops within one step.  Nothing if it is over."""
        if self._process == os.getpid():  # in a forked child there is nothing to cancel
            self._its_request.cancel()

    close = cancel

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if hasattr(self, "_process"):  # __init__ got that far
            self.cancel()

    def __repr__(self) -> str:
        state = self.finish_reason or "running"
        return f"<Generation {state}, {len(self.token_ids)} tokens, seed {self.seed}>"
