"""Telling: one story, many together, a text in turns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ._core import Vocabulary
from .errors import InvalidArgument
from .generation import Generation
from .opened import Opened, checked_service, when_there_is_room
from .sampling import SamplingParams, checked_integer

__all__ = ["Telling"]


class Telling(Opened):
    """The part of :class:`tinyzh.Model` that continues texts."""

    _defaults: SamplingParams
    _vocabulary: Vocabulary

    def generate(
        self,
        prompt: str | Sequence[int] = "",
        *,
        params: SamplingParams | None = None,
        echo: bool = False,
        timeout: float | None = None,
        priority: int = 0,
        overflow: str = "stop",
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        presence_penalty: float | None = None,
        frequency_penalty: float | None = None,
        logit_bias: Mapping[int, float] | None = None,
        bad_words: Sequence[str] | None = None,
        stop: Sequence[str] | str | None = None,
        stop_tokens: Sequence[int] | None = None,
        min_new_tokens: int | None = None,
        max_new_tokens: int | None = None,
        logprobs: int | None = None,
        seed: int | None = None,
    ) -> Generation:
        """Starts to continue ``prompt`` and returns at once: an iterator of text.

        Args:
            prompt: text, or token ids (BOS included, if it is to be there).
            params: the sampling parameters; any given below replaces its field.
            echo: give the prompt first.
            timeout: seconds from now, after which the generation ends with ``timeout``.
            priority: the higher, the sooner, from -1000 to 1000.
            overflow: what happens when the context is full: ``stop`` ends the generation with
                ``length``; ``shift`` goes on for ever from the first eighth and the last half of
                the context (docs/engine.md).
            temperature ... seed: see :class:`SamplingParams`.

        Raises:
            InvalidArgument: a value out of its range.
            ContextFull: the prompt is longer than the context.
            QueueFull: ``queue_limit`` generations are waiting.
        """
        chosen = self._params(params).but(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            logit_bias=logit_bias,
            bad_words=bad_words,
            stop=stop,
            stop_tokens=stop_tokens,
            min_new_tokens=min_new_tokens,
            max_new_tokens=max_new_tokens,
            logprobs=logprobs,
            seed=seed,
        )
        return self._submit(
            prompt, chosen.with_seed(), echo, timeout, priority=priority, overflow=overflow
        )

    def _submit(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams,
        echo: bool,
        timeout: float | None,
        ends: Sequence[int] | None = None,
        *,
        priority: int = 0,
        overflow: str = "stop",
    ) -> Generation:
        self._check_usable()
        timeout, priority = checked_service(timeout, priority)
        if overflow not in ("stop", "shift"):
            raise InvalidArgument(f"overflow is {overflow!r:.100}: expected stop or shift")
        if self._tokenizer is None and (params.stop or params.bad_words):
            raise InvalidArgument(
                "stop and bad_words are text: this model was opened without a tokenizer"
            )
        ids = self._ids(prompt)
        for token in params.stop_tokens:
            checked_integer("a token of stop_tokens", token, 0, self._config.vocab_size - 1)
        for token in params.logit_bias or {}:
            checked_integer("a token of logit_bias", token, 0, self._config.vocab_size - 1)
        ends = self._special.ends if ends is None else ends
        ends = [i for i in ends if i < self._config.vocab_size]  # a model of bytes may have none
        starts_text = self._tokenizer is not None and all(i == self._special.bos for i in ids)
        request = self._engine.submit(
            ids,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            min_p=params.min_p,
            repetition_penalty=params.repetition_penalty,
            presence_penalty=params.presence_penalty,
            frequency_penalty=params.frequency_penalty,
            logit_bias=list((params.logit_bias or {}).items()),
            logprobs=-1 if params.logprobs is None else params.logprobs,
            seed=params.seed or 0,
            max_new_tokens=-1 if params.max_new_tokens is None else params.max_new_tokens,
            min_new_tokens=params.min_new_tokens,
            end_tokens=[*ends, *params.stop_tokens],
            stop=list(params.stop),
            bad_words=list(params.bad_words),
            trim_first_space=bool(
                starts_text and self._tokenizer and self._tokenizer.adds_dummy_prefix
            ),
            shift=overflow == "shift",
            priority=priority,
            timeout=timeout,
        )
        return Generation(
            request,
            owner=self,
            deadline=None if timeout is None else time.monotonic() + timeout,
            pieces=[piece for piece, _ in self._vocabulary.pieces()]
            if self._tokenizer and params.logprobs is not None
            else [],
            seed=params.seed or 0,
            prompt_ids=ids,
            echo=(prompt if isinstance(prompt, str) else self._text(prompt)) if echo else "",
        )

    def generate_many(
        self,
        prompts: Iterable[str | Sequence[int]],
        *,
        params: SamplingParams | None = None,
        echo: bool = False,
        timeout: float | None = None,
        priority: int = 0,
        overflow: str = "stop",
        **changes: Any,
    ) -> list[Generation]:
        """Continues all prompts and returns when all are done, in the order of the prompts.

        Prompt i uses seed + i, so each story is the one that ``generate`` tells with that seed.
        Waits while the queue is full instead of raising QueueFull.  Arguments as for ``generate``.
        """
        if isinstance(prompts, str) or not isinstance(prompts, Iterable):
            raise InvalidArgument(f"prompts is {prompts!r:.100}: expected a list of prompts")
        chosen = self._params(params).but(**changes).with_seed()
        running: list[Generation] = []
        for i, prompt in enumerate(prompts):
            one = chosen.plus_seed(i)
            running.append(
                when_there_is_room(
                    partial(
                        self._submit,
                        prompt,
                        one,
                        echo,
                        timeout,
                        priority=priority,
                        overflow=overflow,
                    ),
                    running,
                )
            )
        for generation in running:
            generation.wait()
            if generation.finish_reason == "error":
                generation.read()  # raises what went wrong
        return running

    def _params(self, params: SamplingParams | None) -> SamplingParams:
        if params is None:
            return self._defaults
        if not isinstance(params, SamplingParams):
            raise InvalidArgument(f"params is {params!r:.100}: expected a SamplingParams")
        return params

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids)) if self._tokenizer else ""
