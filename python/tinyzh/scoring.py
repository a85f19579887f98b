"""How probable texts are to a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ._core import Request
from .errors import ContextFull, GenerationError, InvalidArgument
from .opened import Opened, checked_service, import_numpy, when_there_is_room
from .tokenizer import continue_with

__all__ = ["Choice", "Score", "Scoring"]


@dataclass(frozen=True)
class Score:
    """How probable a text is to the model, after BOS and without counting its ending."""

    token_ids: list[int]  #: of the text, without BOS
    logprobs: list[float]  #: natural logarithm of each token's probability
    total: float  #: sum of ``logprobs``
    perplexity: float  #: e to the mean negative log-probability of a token
    bits_per_character: float  #: -total / ln 2 / Unicode characters of the text


@dataclass(frozen=True)
class Choice:
    """How probable each of several continuations is, in the order they were given."""

    options: list[str]
    logprobs: list[float]  #: natural logarithm of each option's probability after the prompt
    probabilities: list[float]  #: that it is this one, if it is one of them; their sum is 1

    @property
    def best(self) -> str:
        """The most probable option; the first of equals."""
        return self.options[self.probabilities.index(max(self.probabilities))]


class Scoring(Opened):
    """The part of :class:`tinyzh.Model` that says how probable texts are."""

    def score(self, text: str) -> Score:
        """Log-probabilities of a text.

        A text longer than the context is scored in windows that overlap by half, so that every
        token but the first few has at least half a context before it.

        Raises:
            InvalidArgument: an empty text.
            GenerationError: the model's numbers are not numbers.
            ContextFull: the context is a single token, so that none has another before it.
        """
        if not isinstance(text, str):
            raise InvalidArgument(f"text is {text!r:.100}: expected a string")
        ids = self._ids(text)
        if ids[:1] != [self._special.bos]:  # of a tokenizer that puts nothing before a text
            ids = [self._special.bos, *ids]
        if len(ids) < 2:
            raise InvalidArgument(
                f"the text {text!r:.100} has no tokens: expected at least one character"
            )
        context = self._config.seq_len
        if context < 2:
            raise ContextFull(f"the model's context is {context}: scoring needs at least 2 tokens")
        half = max(1, context // 2)
        windows = [(ids[:context], 1)]
        for first in range(context, len(ids), context - half):  # the first token not scored yet
            windows.append((ids[first - half : first - half + context], half))
        logprobs = [p for scores in self._score(windows) for p in scores]
        total = math.fsum(logprobs)
        return Score(
            token_ids=ids[1:],
            logprobs=logprobs,
            total=total,
            perplexity=math.exp(min(-total / len(logprobs), 700.0)),
            bits_per_character=-total / math.log(2) / len(text),
        )

    def _score(
        self, texts: Sequence[tuple[list[int], int]], priority: int = 0
    ) -> list[list[float]]:
        """For each (ids, from): the log-probabilities of ids[from:], all computed together."""
        self._check_usable()
        import_numpy()
        requests: list[Request] = []
        scores = []
        try:
            for ids, start in texts:
                submit = partial(
                    self._engine.submit_score,
                    ids,
                    score_from=start,
                    priority=priority,
                    timeout=None,
                )
                requests.append(when_there_is_room(submit, requests))
            for request in requests:
                while request.finish_reason is None:
                    request.wait(0, 0.1)  # in slices, to look at Ctrl-C
                request.raise_error()
                if request.finish_reason != "stop":
                    raise GenerationError("the model was closed before the text was scored")
                scores.append([float(p) for p in request.scores()])
        finally:  # nobody would want the rest
            for request in requests:
                request.cancel()
        return scores

    def choose(
        self, prompt: str, options: Sequence[str], *, normalise: bool = False, priority: int = 0
    ) -> Choice:
        """How probable each option is as what comes next, all computed together.

        Args:
            prompt: the text before; computed once for all options.
            options: at least one; each is encoded by itself, never merged with the prompt.
            normalise: divide each log-probability by the option's number of tokens, so that long
                options are not at a disadvantage.
            priority: as for ``generate``.

        Raises:
            InvalidArgument: no option, or one that is empty.
            ContextFull: the prompt and an option do not fit the context.
        """
        if isinstance(options, str) or not isinstance(options, Sequence) or not options:
            raise InvalidArgument(f"options is {options!r:.100}: expected a list of strings")
        for option in options:
            if not isinstance(option, str) or not option:
                raise InvalidArgument(f"an option is {option!r:.100}: expected a text")
        _, priority = checked_service(None, priority)
        if not isinstance(prompt, str):
            raise InvalidArgument(f"prompt is {prompt!r:.100}: expected a string")
        before = self._ids(prompt)
        after = [continue_with(self.tokenizer, option) for option in options]
        scores = self._score([(before + ids, len(before)) for ids in after], priority)
        logprobs = [math.fsum(one) for one in scores]
        weights = [
            p / len(one) if normalise else p for p, one in zip(logprobs, scores, strict=True)
        ]
        shares = [math.exp(w - max(weights)) for w in weights]
        total = math.fsum(shares)
        return Choice(list(options), logprobs, [share / total for share in shares])
