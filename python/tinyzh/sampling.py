"""How the next token is chosen, and when a generation ends."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

from .errors import InvalidArgument

__all__ = ["MAX_SEED", "SamplingParams"]

MAX_SEED = 2**64 - 1
_MAX_INT = 2**31 - 1


def checked_number(
    name: str, value: object, low: float, high: float, *, above: bool = False
) -> float:
    """The value, if low <= value <= high (low < value with ``above``)."""
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an integer of hundreds of digits
            number = math.inf
        if low <= number <= high and not (above and number == low):
            return number
    start = "more than" if above else "from"
    raise InvalidArgument(
        f"{name} is {value!r:.100}: expected a number {start} {low:g} up to {high:g}"
    )


def checked_integer(name: str, value: object, low: int, high: int) -> int:
    """The value, if low <= value <= high."""
    if isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high:
        return int(value)
    raise InvalidArgument(f"{name} is {value!r}: expected an integer from {low} to {high}")


def _strings(name: str, value: object) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, Sequence) or not all(isinstance(s, str) for s in strings):
        raise InvalidArgument(f"{name} is {value!r}: expected a string or a list of strings")
    for s in strings:
        if any("\ud800" <= c <= "\udfff" for c in s):
            raise InvalidArgument(f"{name} holds {s!r}: half a surrogate pair is no character")
    if any(not s for s in strings):
        raise InvalidArgument(f"{name} holds an empty string: every text contains it; leave it out")
    return tuple(strings)


def _token_ids(name: str, value: object) -> tuple[int, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidArgument(f"{name} is {value!r}: expected a list of token ids")
    return tuple(checked_integer(f"a token of {name}", token, 0, _MAX_INT) for token in value)


def _biases(value: object) -> dict[int, float] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"logit_bias is {value!r}: expected a mapping of token id to number")
    return {
        checked_integer("a token of logit_bias", token, 0, _MAX_INT): checked_number(
            f"logit_bias of token {token}", bias, -100, 100
        )
        for token, bias in value.items()
    }


@dataclass(frozen=True)
class SamplingParams:
    """The parameters of one generation; immutable and checked when made.

    The steps, in this order: ``logit_bias``, ``bad_words`` and ``min_new_tokens``; repetition
    penalty; presence and frequency penalties; temperature; softmax; ``top_k``; ``min_p``;
    ``top_p``; one random number.  docs/sampling.md gives the formulas.

    Raises:
        InvalidArgument: a value out of its range; the message names it and the range.
    """

    temperature: float = 0.9  #: 0 (always the most probable token) and up
    top_p: float = 0.9  #: (0, 1]: keep the most probable tokens until their sum passes it; 1: all
    top_k: int = 0  #: keep the k most probable tokens; 0: all
    min_p: float = 0.0  #: [0, 1]: keep tokens at least this fraction as probable as the best
    repetition_penalty: float = 1.0  #: [0.01, 100]: of tokens in prompt or output; 1: none
    presence_penalty: float = 0.0  #: [-100, 100]: subtracted once for tokens in the output
    frequency_penalty: float = 0.0  #: [-100, 100]: subtracted for each time a token is there
    logit_bias: Mapping[int, float] | None = None  #: token id -> [-100, 100], added to its logit
    bad_words: Sequence[str] = ()  #: strings that never appear in the output
    stop: Sequence[str] = ()  #: strings that end the output and are not part of it
    stop_tokens: Sequence[int] = ()  #: ids that end the output, beside BOS and EOS
    min_new_tokens: int = 0  #: no end token before this many tokens
    max_new_tokens: int | None = None  #: None: to the end of the story or of the context
    logprobs: int | None = None  #: log-probabilities: 0 of the chosen token, n of the n best too
    seed: int | None = None  #: 1 ... 2**64 - 1 (0 stands for a fixed constant); None: random

    def __post_init__(self) -> None:
        def optional(name: str, value: int | None, high: int) -> int | None:
            return None if value is None else checked_integer(name, value, 0, high)

        checked = {
            "temperature": checked_number("temperature", self.temperature, 0, 1000),
            "top_p": checked_number("top_p", self.top_p, 0, 1, above=True),
            "top_k": checked_integer("top_k", self.top_k, 0, _MAX_INT),
            "min_p": checked_number("min_p", self.min_p, 0, 1),
            "repetition_penalty": checked_number(
                "repetition_penalty", self.repetition_penalty, 0.01, 100
            ),
            "presence_penalty": checked_number(
                "presence_penalty", self.presence_penalty, -100, 100
            ),
            "frequency_penalty": checked_number(
                "frequency_penalty", self.frequency_penalty, -100, 100
            ),
            "logit_bias": _biases(self.logit_bias),
            "bad_words": _strings("bad_words", self.bad_words),
            "stop": _strings("stop", self.stop),
            "stop_tokens": _token_ids("stop_tokens", self.stop_tokens),
            "min_new_tokens": checked_integer("min_new_tokens", self.min_new_tokens, 0, _MAX_INT),
            "max_new_tokens": optional("max_new_tokens", self.max_new_tokens, _MAX_INT),
            "logprobs": optional("logprobs", self.logprobs, _MAX_INT),
            "seed": optional("seed", self.seed, MAX_SEED),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # frozen for everyone else

    def but(self, **changes: Any) -> SamplingParams:
        """A copy with the given fields changed; ``None`` leaves a field as it is."""
        known = {f.name for f in fields(self)}
        if unknown := set(changes) - known:
            name = sorted(unknown)[0]
            raise InvalidArgument(
                f"unknown parameter {name!r}: expected {', '.join(sorted(known))}"
            )
        return replace(self, **{k: v for k, v in changes.items() if v is not None})

    def with_seed(self) -> SamplingParams:
        """Itself, or with a random seed where it has none."""
        return (
            self
            if self.seed is not None
            else replace(self, seed=int.from_bytes(os.urandom(8), "little") or 1)
        )

    def plus_seed(self, offset: int) -> SamplingParams:
        """For story number ``offset`` of several: seed + offset, from 1 again past 2**64 - 1."""
        if self.seed is None:
            raise InvalidArgument(
                "seed is None: expected a number to add to; call with_seed() first"
            )
        return replace(self, seed=(self.seed + offset - 1) % MAX_SEED + 1 if offset else self.seed)
