"""One story under way: an iterator of text, synchronous or asynchronous."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import _core

__all__ = ["Generation", "GenerationStats", "TokenLogprob"]

_FOREVER = 1e9
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
    logits_hash: int  #: FNV-1a of the last logits; equal bits give equal hashes


class Generation:
    """What ``Model.generate`` returns.  Made by the model only.

    Iterating gives text as it becomes certain, whole characters only; leaving the loop early
    cancels the rest.  ``async for`` does the same.  ``read()`` gives the rest at once.  The model
    runs ahead of its reader, so nothing is lost by reading late.
    """

    def __init__(
        self,
        request: _core.Request,
        *,
        pieces: list[bytes],
        seed: int,
        prompt_ids: list[int],
        echo: str,
    ) -> None:
        self._request = request
        self._token_bytes = pieces
        self._seed = seed
        self._prompt_ids = prompt_ids
        self._echo = echo
        self._taken = 0  # pieces taken from the request
        self._ready: deque[str] = deque([echo] if echo else [])
        self._over = False  # nothing more will come from the request

    # ---- reading ------------------------------------------------------------------------------

    def _take(self, seconds: float) -> None:
        """Moves new pieces to ``_ready``, waiting at most ``seconds`` for the first."""
        pieces, finish = self._request.wait(self._taken, seconds)
        self._taken += len(pieces)
        self._ready.extend(pieces)
        self._over = finish is not None

    def _raise_if_failed(self) -> None:
        if self._over and not self._ready:
            self._request.raise_error()

    def __next__(self) -> str:
        while not self._ready and not self._over:
            self._take(_SLICE)
        self._raise_if_failed()
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

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
        if not self._ready and not self._over:
            import asyncio  # here, since importing it costs more than all the rest of the package

            loop, event = asyncio.get_running_loop(), asyncio.Event()

            def wake() -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)

            self._request.set_waker(wake)
            try:
                while not self._ready and not self._over:
                    await event.wait()
                    event.clear()
                    self._take(0)
            finally:
                self._request.set_waker(None)
        self._raise_if_failed()
        return self._ready.popleft() if self._ready else None

    async def __aiter__(self) -> AsyncIterator[str]:
        ended = False
        try:
            while True:
                piece = await self._next_async()
                if piece is None:
                    ended = True
                    return
                yield piece
        finally:
            if not ended:
                self.cancel()

    def read(self) -> str:
        """The rest of the text, once it is all there."""
        parts = []
        while True:
            try:
                parts.append(next(self))
            except StopIteration:
                return "".join(parts)

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
        return self._request.finish_reason

    @property
    def seed(self) -> int:
        """The seed: the same one gives the same story again."""
        return self._seed

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
        left = _FOREVER if timeout is None else timeout
        while self._request.finish_reason is None and left > 0:
            # An index that no piece will have: only the end wakes this up.
            self._request.wait(2**62, min(left, _SLICE))
            left -= _SLICE
        return self._request.finish_reason is not None

    def cancel(self) -> None:
        """Ends the generation now; the engine stops within one step.  Nothing if it is over."""
        self._request.cancel()

    close = cancel

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        request = getattr(self, "_request", None)  # missing when __init__ did not get that far
        if request is not None:
            request.cancel()

    def __repr__(self) -> str:
        state = self.finish_reason or "running"
        return f"<Generation {state}, {len(self.token_ids)} tokens, seed {self.seed}>"
