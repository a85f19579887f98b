"""The model: opens a checkpoint, tells stories, scores texts."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from . import _core, postman
from .builtin import MODEL, TOKENIZER
from .config import Config
from .devices import resolve_device
from .errors import InvalidArgument, TokenizerError
from .formats.found import Found, of_source, open_path, source_of
from .looking import Looking
from .sampling import SamplingParams, checked_integer
from .scoring import Scoring
from .session import Session
from .sizes import parse_bytes
from .special import LLAMA2C, Special
from .stats import EngineStats
from .telling import Telling
from .tokenizer import Tokenizer, fitting, open_tokenizer
from .weights import nothing, stacked

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Model"]

_MAX_QUEUE = 2**31 - 1
_MAX_STREAMS = 2**31 - 1  # the core knows what the device can

_open_models: weakref.WeakSet[Model] = weakref.WeakSet()


class Model(Telling, Scoring, Looking):
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
        streams: how many generations are computed together, from 1 to 256 (``cuda``: to
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
            path = MODEL
            tokenizer = TOKENIZER if tokenizer is None else tokenizer
        if isinstance(path, bytes):
            path = _found_in_bytes(path)
        found = path if isinstance(path, Found) else open_path(path)
        self._name = found.name
        self._core = _core.Model(found.load(nothing), dtype, threads or 0, "", kv_dtype, device)
        self._checkpoint = self._core.checkpoint
        self._config = Config.from_checkpoint(self._checkpoint)
        self._format = found.format
        self._defaults = SamplingParams(**found.defaults)
        self._tokenizer = self._find_tokenizer(tokenizer, found)
        self._special: Special = (
            found.special or getattr(self._tokenizer, "special", None) or LLAMA2C
        )
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
        if not isinstance(arrays, Mapping):
            raise InvalidArgument(
                f"arrays is {arrays!r:.100}: expected a mapping of names to arrays"
            )
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
            tokenizer = open_tokenizer(Path(tokenizer), special=found.special or LLAMA2C)
        elif isinstance(tokenizer, bool) or not hasattr(tokenizer, "vocab_size"):
            raise InvalidArgument(
                f"tokenizer is {tokenizer!r:.100}: expected a path, a tokenizer, False or None"
            )
        rounded_up = found.special is not None  # a file of others
        return fitting(tokenizer, self._config.vocab_size, rounded_up=rounded_up)

    def session(self, text: str = "", *, ids: Sequence[int] | None = None) -> Session:
        """A text that several generations continue one after another; see :class:`Session`.

        Args:
            text: how it begins; or
            ids: the same as token ids.
        """
        self._check_usable()
        return Session(self, self._ids(text if ids is None else ids))

    # ---- what it is ---------------------------------------------------------------------------

    @property
    def defaults(self) -> SamplingParams:
        """What ``generate`` uses where it is told nothing else: tinyzh's own values, changed by
        what a Hugging Face folder or a GGUF file asks for."""
        return self._defaults

    @property
    def format(self) -> str:
        """What it was read from: ``llama2.c v0``, ``llama2.c v1``, ``llama2.c v2``, ``tinyzh tz``,
        ``Hugging Face``, ``GGUF`` or ``arrays``."""
        return self._format

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


@atexit.register
def _close_all() -> None:
    """Before the interpreter goes, so that no thread comes back from the core when it is gone."""
    for model in list(_open_models):
        model.close()
    postman.close()
    patience = time.monotonic() + 5
    while not _core.stay_from_now_on() and time.monotonic() < patience:
        time.sleep(0.001)
