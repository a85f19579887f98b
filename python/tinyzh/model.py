"""The model: opens a checkpoint, tells stories, scores texts."""

from __future__ import annotations

import atexit
import math
import operator
import os
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from . import _core, postman
from .config import Config
from .devices import resolve_device
from .errors import (
    ContextFull,
    GenerationError,
    InvalidArgument,
    QueueFull,
    TokenizerError,
)
from .formats.found import Found, of_source, open_path, source_of
from .generation import Generation
from .sampling import SamplingParams, checked_integer, checked_number
from .session import Session
from .sizes import parse_bytes
from .stats import EngineStats
from .tokenizer import Tokenizer, continue_with, open_tokenizer
from .trace import Trace
from .weights import Weights, stacked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Choice", "Model", "Score"]

_DATA = Path(__file__).parent / "data"
_MAX_QUEUE = 2**31 - 1
_MAX_STREAMS = 2**31 - 1  # the core knows what the device can
_Request = TypeVar("_Request", Generation, _core.Request)

_open_models: weakref.WeakSet[Model] = weakref.WeakSet()


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


class Model:
    """A story model.

    Args:
        path: a llama2.c checkpoint (v0, v1 or v2), a tz or GGUF file, a Hugging Face folder (told
            apart by content), the bytes of a checkpoint or tz file, or None for the built-in story
            model.
        tokenizer: a tokenizer, or the path of one; None: that of the folder or the GGUF file, else
            one found beside the checkpoint; False: none (prompts are token ids then, and
            generations have ids but no text).
        dtype: ``auto`` keeps the file's own precision; ``float32``; ``int8``; ``int4``; with
            ``cuda`` also ``float16`` and ``bfloat16``.
        kv_dtype: how keys and values of earlier positions are kept: ``float32``, ``float16`` or
            ``int8``; ``auto`` is float32 with float32 weights, else float16.
        threads: threads of one computation, from 1 to 256; None: TINYZH_THREADS, else the physical
            cores that this process may use.
        device: ``cpu``; ``cuda``, where it is built in (docs/cuda.md); ``auto``: a GPU if there is
            one and it is built in; None: TINYZH_DEVICE, else ``cpu``.
        streams: how many generations are computed together, from 1 to 256 (``cuda``:
            1,024); more of them wait.
        queue_limit: how many generations may wait; one more raises QueueFull.
        kv_cache: memory for keys and values, as a number of bytes or such as ``"512MiB"``; None:
            enough for all streams to fill their context, at most a quarter of the free memory.

    Raises:
        FileMissing, FileError: the file cannot be read.
        CheckpointError: it is not a checkpoint, or not a whole one, or a model of another kind.
        TokenizerError: no tokenizer that fits.
        MissingPackage: its format needs a package that is not installed.
        BackendError: an unknown device, or an instruction set (TINYZH_ISA) that is not there.

    One Model may be used from any number of threads.  It is a context manager; leaving the block
    closes it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | bytes | Found | None = None,
        *,
        tokenizer: Tokenizer | str | os.PathLike[str] | Literal[False] | None = None,
        dtype: str = "auto",
        kv_dtype: str = "auto",
        threads: int | None = None,
        device: str | None = None,
        streams: int = 64,
        queue_limit: int = 1024,
        kv_cache: int | str | None = None,
    ) -> None:
        device = resolve_device(device)
        if threads is not None:
            threads = checked_integer("threads", threads, 1, 256)
        streams = checked_integer("streams", streams, 1, _MAX_STREAMS)
        queue_limit = checked_integer("queue_limit", queue_limit, 1, _MAX_QUEUE)
        kv_bytes = 0 if kv_cache is None else parse_bytes("kv_cache", kv_cache)
        if not isinstance(dtype, str):
            raise InvalidArgument(f"dtype is {dtype!r:.100}: expected auto, float32, int8 or int4")
        if not isinstance(kv_dtype, str):
            raise InvalidArgument(
                f"kv_dtype is {kv_dtype!r:.100}: expected auto, float32, float16 or int8"
            )
        if path is not None and not isinstance(path, (str, os.PathLike, bytes, Found)):
            raise InvalidArgument(f"path is {path!r:.100}: expected a path, bytes or None")
        if path is None:
            path = _DATA / "story.bin"
            tokenizer = _DATA / "story.tokenizer.bin" if tokenizer is None else tokenizer
        if isinstance(path, bytes):
            path = _found_in_bytes(path)
        found = path if isinstance(path, Found) else open_path(path)
        self._name = found.name
        self._core = _core.Model(found.load(), dtype, threads or 0, "", kv_dtype, device)
        self._checkpoint = self._core.checkpoint
        self._config = Config.from_checkpoint(self._checkpoint)
        self._format = found.format
        self._bos, self._ends = found.bos, found.ends
        self._defaults = SamplingParams(**found.defaults)
        self._tokenizer = self._find_tokenizer(tokenizer, found)
        self._vocabulary = _vocabulary(self._tokenizer, self._config.vocab_size)
        self._engine = _core.Engine(self._core, self._vocabulary, queue_limit, streams, kv_bytes)
        self._process = os.getpid()
        self._closed = False
        _open_models.add(self)

    @classmethod
    def from_arrays(
        cls,
        config: Config,
        arrays: Mapping[str, NDArray[Any]],
        *,
        tokenizer: Tokenizer | str | os.PathLike[str] | Literal[False] | None = False,
        **options: Any,
    ) -> Model:
        """A model of arrays, for instance out of training or from ``other.weights``.

        Args:
            config: the shape.
            arrays: of floating-point numbers, by the names of llama2.c's file: ``tok_emb``
                (vocab_size, dim), ``wq`` (n_layers, dim, dim) or ``layers.0.wq`` … (dim, dim)
                (docs/formats.md).  float32 arrays that lie without gaps are used in place, and
                must not change then.
            tokenizer: a tokenizer or the path of one; False: none.
            options: the other arguments of Model.

        Raises:
            InvalidArgument: a shape that no model has; an array is missing or does not fit.
        """
        if not isinstance(config, Config):
            raise InvalidArgument(f"config is {config!r:.100}: expected a tinyzh.Config")
        source = source_of(config, stacked(config, arrays))
        found = of_source("from arrays", source, _no_tokenizer)
        return cls(found, tokenizer=tokenizer, **options)

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        file: str | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> Model:
        """A model of the Hugging Face hub, downloaded unless it is in the cache (docs/hub.md).

        Args:
            name: ``owner/name`` or ``owner/name:file``.
            file ... local_files_only: see :func:`tinyzh.hub.pull`.
            options: the other arguments of Model.

        Raises:
            FileMissing: no such repository, revision or file; offline, and not in the cache.
            FileError: no connection, no permission, no space; a file is not what it should be.
            InvalidArgument: no name of a repository; several models fit, and none is named.
            MissingPackage: ``pip install 'tinyzh[hub]'`` is needed.
        """
        from .hub import pull

        path = pull(
            name,
            file,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
        )
        return cls(path, **options)

    def _find_tokenizer(
        self, tokenizer: Tokenizer | str | os.PathLike[str] | Literal[False] | None, found: Found
    ) -> Tokenizer | None:
        if tokenizer is False:
            return None
        if tokenizer is None:
            tokenizer = found.tokenizer()
        elif isinstance(tokenizer, (str, os.PathLike)):
            tokenizer = open_tokenizer(Path(tokenizer))
        elif isinstance(tokenizer, bool) or not hasattr(tokenizer, "vocab_size"):
            raise InvalidArgument(
                f"tokenizer is {tokenizer!r:.100}: expected a path, a tokenizer, False or None"
            )
        # Other programs round the vocabulary up, so that some ids have no piece.
        rounded_up = found.format in ("Hugging Face", "GGUF")
        pieces, wanted = tokenizer.vocab_size, self._config.vocab_size
        if pieces > wanted or (pieces < wanted and not rounded_up):
            raise TokenizerError(
                f"{tokenizer.path}: has {pieces} pieces, the model's vocabulary {wanted}; pass the "
                "tokenizer that belongs to this model"
            )
        return tokenizer

    # ---- generation ---------------------------------------------------------------------------

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
        timeout, priority = _checked_service(timeout, priority)
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
        ends = self._ends if ends is None else ends
        ends = [i for i in ends if i < self._config.vocab_size]  # a model of bytes may have none
        starts_text = self._tokenizer is not None and all(i == self._bos for i in ids)
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
                _when_there_is_room(
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

    # ---- scoring ------------------------------------------------------------------------------

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
        _import_numpy()
        requests: list[_core.Request] = []
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
                requests.append(_when_there_is_room(submit, requests))
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
        _, priority = _checked_service(None, priority)
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

    def session(self, text: str = "", *, ids: Sequence[int] | None = None) -> Session:
        """A text that several generations continue one after another; see :class:`Session`.

        Args:
            text: how it begins; or
            ids: the same as token ids.
        """
        self._check_usable()
        return Session(self, self._ids(text if ids is None else ids))

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits after each token: (T, vocab_size) float32; broken weights show as NaN.

        Raises:
            InvalidArgument: an id out of range.
            ContextFull: more tokens than the context.
        """
        if isinstance(ids, str):
            raise InvalidArgument(f"ids is {ids!r:.100}: expected a list of token ids")
        return self._engine.logits(self._fitting(ids))

    def trace(self, text: str | Sequence[int]) -> Trace:
        """Every intermediate of a forward pass, by name; see :class:`Trace`.

        Args:
            text: a text (BOS is put before it), or token ids.

        Raises:
            InvalidArgument: an id out of range.
            ContextFull: more tokens than the context.
        """
        return Trace(self._engine.trace(self._fitting(text)), self._config)

    def hidden_states(self, text: str | Sequence[int], layer: int = -1) -> NDArray[np.float32]:
        """The residual stream behind a layer: (T, dim) float32, no norm applied.

        Args:
            text: a text (BOS is put before it), or token ids.
            layer: 0: the token embeddings; 1 to n_layers: behind that layer; -1: behind the last.

        Raises:
            InvalidArgument: an id or a layer out of range.
            ContextFull: more tokens than the context.
        """
        last = self._config.n_layers
        layer = checked_integer("layer", layer, -last - 1, last) % (last + 1)
        if layer < last:
            name = f"layers.{layer}.x"
            return self._engine.trace(self._fitting(text), {name})[name]
        names = {f"layers.{last - 1}.x_mid", f"layers.{last - 1}.ffn_out"}
        middle, more = self._engine.trace(self._fitting(text), names).values()
        behind: NDArray[np.float32] = middle + more
        return behind

    def embed(self, text: str | Sequence[str], pooling: str = "mean") -> NDArray[np.float32]:
        """Vectors for texts: what the last norm gives, before the classifier.

        Args:
            text: one text, or several.
            pooling: ``mean`` over the tokens (BOS left out, unless there is no other); ``last``:
                of the last token; ``none``: of every token, BOS first.

        Returns:
            (dim) float32 of one text, (n, dim) of several; with ``none`` (T, dim) of one text.

        Raises:
            InvalidArgument: no text, an unknown pooling, or several texts with ``none``.
            ContextFull: a text is longer than the context.
        """
        if pooling not in ("mean", "last", "none"):
            raise InvalidArgument(f"pooling is {pooling!r:.100}: expected mean, last or none")
        if not isinstance(text, str):
            texts = list(text)
            if not texts or pooling == "none" or not all(isinstance(t, str) for t in texts):
                raise InvalidArgument(
                    f"text is {text!r:.100}: expected a text, or with mean or last a list of them"
                )
            import numpy as np

            return np.stack([self.embed(one, pooling) for one in texts])
        states = self._engine.trace(self._fitting(text), {"final_norm"})["final_norm"]
        if pooling == "none":
            return states
        chosen = states[-1:] if pooling == "last" else states[len(states) > 1 :]
        vector: NDArray[np.float32] = chosen.mean(axis=0)
        return vector

    # ---- looking ------------------------------------------------------------------------------

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
    def defaults(self) -> SamplingParams:
        """What ``generate`` uses where it is told nothing else: tinyzh's own values, changed by the
        generation_config.json of a Hugging Face folder."""
        return self._defaults

    @property
    def format(self) -> str:
        """What it was read from: ``llama2.c v0``, ``llama2.c v1``, ``llama2.c v2``, ``tinyzh tz``,
        ``Hugging Face``, ``GGUF`` or ``arrays``."""
        return self._format

    @property
    def weights(self) -> Weights:
        """Its tensors by name, as read-only arrays."""
        return Weights(self._core, self._config)

    @property
    def dtype(self) -> str:
        """``float32``, ``int8``, ``int4``, ``float16`` or ``bfloat16``: what it computes with."""
        return self._core.dtype

    @property
    def kv_dtype(self) -> str:
        """``float32``, ``float16`` or ``int8``: how keys and values are kept."""
        return self._core.kv_dtype

    @property
    def parameters(self) -> int:
        """Number of weights in the file."""
        return int(self._checkpoint["parameters"])

    @property
    def fingerprint(self) -> int:
        """Tells checkpoints apart: a hash of the shape and of samples of the file."""
        return self._core.fingerprint

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``: where it computes."""
        return self._core.device

    @property
    def threads(self) -> int:
        """Threads of one computation."""
        return self._core.threads

    @property
    def isa(self) -> str:
        """Instruction set of the kernels in use."""
        return self._core.isa

    def memory(self) -> dict[str, int]:
        """Bytes: of the file (mapped, shared with other processes); of weights held beside it; of
        keys and values, at most (``kv_cache``), taken from the system so far, in use, and for one
        position of one stream; and read for one token."""
        stats = self._engine.stats()
        page = stats["page_bytes"]
        return {
            "file": int(self._checkpoint["file_bytes"]),
            "weights": self._core.weight_bytes,
            "kv_cache_limit": stats["pages_limit"] * page,
            "kv_cache": stats["pages_allocated"] * page,
            "kv_cache_used": stats["pages"] * page,
            "kv_cache_per_position": self._core.kv_bytes_per_position,
            "read_per_token": self._core.bytes_per_token,
        }

    def stats(self) -> EngineStats:
        """What the engine has done lately: requests, cache, speed, times."""
        return EngineStats.from_core(self._engine.stats())

    # ---- ending -------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancels all generations and stops the engine.  The model cannot be used afterwards."""
        self._closed = True
        _open_models.discard(self)
        if self._process == os.getpid():  # a forked child has no engine thread to stop
            self._engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        c = self._config
        return (
            f"<tinyzh.Model {self._name}: {self.parameters / 1e6:.1f}M parameters, {self.dtype}, "
            f"dim {c.dim}, {c.n_layers} layers, {c.n_heads} heads, vocabulary {c.vocab_size}, "
            f"context {c.seq_len}, {self.threads} threads, {self.isa}>"
        )

    # ---- helpers ------------------------------------------------------------------------------

    def _params(self, params: SamplingParams | None) -> SamplingParams:
        if params is None:
            return self._defaults
        if not isinstance(params, SamplingParams):
            raise InvalidArgument(f"params is {params!r:.100}: expected a SamplingParams")
        return params

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

    def _fitting(self, text: str | Sequence[int]) -> list[int]:
        """Checked token ids that fit the context, before memory is taken for a result."""
        self._check_usable()
        ids = self._ids(text) if isinstance(text, str) else self._checked("ids", text)
        if len(ids) > (context := self._config.seq_len):
            raise ContextFull(f"{len(ids)} tokens do not fit the model's context of {context}")
        _import_numpy()
        return ids

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids)) if self._tokenizer else ""

    def _check_usable(self) -> None:
        if self._closed:
            raise GenerationError("the model is closed: open it again")
        if self._process != os.getpid():
            raise GenerationError(
                "this model was opened before the process forked, and its threads are not here: "
                "open it in the child"
            )


def _found_in_bytes(data: bytes) -> Found:
    def no_folder(_: int) -> Tokenizer:
        raise TokenizerError("a model from bytes has no folder to look in: pass tokenizer=")

    return of_source("from bytes", _core.Source.from_bytes(data), no_folder)


def _no_tokenizer(_: int) -> Tokenizer:
    raise TokenizerError("a model from arrays has no tokenizer of its own: pass tokenizer=")


def _vocabulary(tokenizer: Tokenizer | None, vocab_size: int) -> _core.Vocabulary:
    """id -> bytes; ids without a piece add nothing to a text."""
    if tokenizer is None:
        return _core.Vocabulary([])
    if (missing := vocab_size - tokenizer.vocab_size) == 0:
        return tokenizer.vocabulary
    return _core.Vocabulary([*tokenizer.vocabulary.pieces(), *[(b"", "control")] * missing])


def _when_there_is_room(submit: Callable[[], _Request], running: Sequence[_Request]) -> _Request:
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


def _checked_service(timeout: float | None, priority: int) -> tuple[float | None, int]:
    """The checked values."""
    if timeout is not None:
        timeout = checked_number("timeout", timeout, 0, 1e9)
    return timeout, checked_integer("priority", priority, -1000, 1000)


def _import_numpy() -> None:
    """Before the core does, at its first array.

    Importing runs Python, and a daemon thread that runs Python when the interpreter goes is killed:
    no harm, unless there is C++ further up on its stack.
    """
    import numpy  # noqa: F401


@atexit.register
def _close_all() -> None:
    """Before the interpreter goes, so that no thread comes back from the core when it is gone."""
    for model in list(_open_models):
        model.close()
    postman.close()
    patience = time.monotonic() + 5
    while not _core.stay_from_now_on() and time.monotonic() < patience:
        time.sleep(0.001)
