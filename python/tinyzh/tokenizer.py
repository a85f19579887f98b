"""Text to token ids and back: SentencePiece ``.model`` and llama2.c ``tokenizer.bin`` files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from . import _core
from .errors import FileError, InvalidArgument, TokenizerError
from .files import not_what_was_wanted, read
from .special import LLAMA2C, Special

if TYPE_CHECKING:
    import sentencepiece

__all__ = [
    "BinTokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "find_tokenizer",
    "fitting",
    "open_tokenizer",
]


class Tokenizer(Protocol):
    """What a model needs of a tokenizer."""

    @property
    def path(self) -> Path: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def pieces(self) -> list[bytes]: ...
    @property
    def vocabulary(self) -> _core.Vocabulary: ...
    @property
    def adds_dummy_prefix(self) -> bool: ...

    def encode(
        self, text: str, *, bos: bool = True, eos: bool = False, dummy_prefix: bool | None = None
    ) -> list[int]: ...
    def decode(self, ids: Sequence[int]) -> str: ...


def continue_with(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text that follows another one: without BOS, without a space put in front."""
    return tokenizer.encode(text, bos=False, dummy_prefix=False)


class BinTokenizer:
    """llama2.c's ``tokenizer.bin``, in all its dialects (docs/tokenizers.md).

    Args:
        path: the file.
        vocab_size: how many pieces it must have; None: as many as it has.
        special: what begins and ends a text.

    Raises:
        TokenizerError: not such a file, corrupt, or another number of pieces.
        FileError: it cannot be read.
    """

    def __init__(
        self, path: str | Path, vocab_size: int | None = None, special: Special = LLAMA2C
    ) -> None:
        self.path, self.special = Path(path), special
        data = read(self.path)
        if vocab_size is None:
            vocab_size = _core.count_tokenizer_entries(data, os.fsencode(path))
        self._core = _core.BpeTokenizer(data, vocab_size, os.fsencode(path))

    @property
    def vocabulary(self) -> _core.Vocabulary:
        """id -> bytes, as the engine uses it."""
        return self._core.vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return len(self._core.vocabulary)

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes that each id adds to a text; empty for BOS and EOS."""
        return [data for data, _ in self._core.vocabulary.pieces()]

    @property
    def adds_dummy_prefix(self) -> bool:
        """Whether text is encoded with a space in front, which decoding takes away again."""
        return self._core.has_space

    def encode(
        self,
        text: str,
        *,
        bos: bool = True,
        eos: bool = False,
        dummy_prefix: bool | None = None,
        narrow_punctuation: bool = True,
        squeeze_spaces: bool = False,
    ) -> list[int]:
        """Token ids of a text.

        Args:
            bos, eos: put the token for the beginning, the end of a text around it.
            dummy_prefix: put a space before the text, as SentencePiece does; None: if the
                vocabulary has one.
            narrow_punctuation: a full-width character that the vocabulary lacks becomes the
                half-width one that it has.
            squeeze_spaces: drop leading and trailing spaces, and make one of several.
        """
        checked_text(text)
        prefix = True if dummy_prefix is None else dummy_prefix
        data = text.encode("utf-8", "surrogatepass")
        ids = self._core.encode(data, False, False, prefix, squeeze_spaces, narrow_punctuation)
        return self.special.around(ids, bos, eos)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; broken characters become U+FFFD."""
        text = self._core.decode(list(ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.adds_dummy_prefix else text

    def __repr__(self) -> str:
        return f"BinTokenizer({str(self.path)!r}, vocab_size={self.vocab_size})"


class SentencePieceTokenizer:
    """A SentencePiece ``.model``, with the normalisation and the space rules that the file records.

    Args:
        path: the file; or, with ``data``, where its content comes from.
        data: the content, if it is no file of its own.
        special: what begins and ends a text.

    Raises:
        TokenizerError: not such a file.
        FileError: it cannot be read.
    """

    def __init__(
        self, path: str | Path, data: bytes | None = None, special: Special = LLAMA2C
    ) -> None:
        self.path, self.special = Path(path), special
        self.data = read(self.path) if data is None else data
        self._sp = _sentencepiece(self.path, self.data)
        # The library cannot leave out a dummy prefix that the file asks for; the core can, of BPE.
        self._core: _core.SentencePieceModel | None = None
        with contextlib.suppress(TokenizerError):
            self._core = _core.SentencePieceModel(self.data, os.fsencode(path))

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return int(self._sp.vocab_size())

    @cached_property
    def _piece_kinds(self) -> list[tuple[bytes, str]]:
        return [_piece(self._sp, i) for i in range(self.vocab_size)]

    @cached_property
    def vocabulary(self) -> _core.Vocabulary:
        """id -> bytes, as the engine uses it."""
        return _core.Vocabulary(self._piece_kinds)

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes that each id adds to a text; empty for BOS and EOS."""
        return [data for data, _ in self._piece_kinds]

    @cached_property
    def adds_dummy_prefix(self) -> bool:
        """Whether text is encoded with a space in front, which decoding takes away again."""
        if self._core is not None:
            return self._core.adds_dummy_prefix
        return self._with_prefix("x") != self._without_prefix("x")

    def _with_prefix(self, text: str) -> list[int]:
        return list(self._sp.encode(text))

    def _without_prefix(self, text: str) -> list[int]:
        if self._core is not None:
            return self._core.encode(text.encode(), False)
        # Behind a line break, which no piece joins, and that taken away again.
        mark = self._with_prefix("\n")
        ids = self._with_prefix("\n" + text)
        return ids[len(mark) :] if ids[: len(mark)] == mark else self._with_prefix(text)

    def encode(
        self, text: str, *, bos: bool = True, eos: bool = False, dummy_prefix: bool | None = None
    ) -> list[int]:
        """Token ids of a text.

        Args:
            bos, eos: put the token for the beginning, the end of a text around it.
            dummy_prefix: False leaves out the space that the file asks for in front of a text.
        """
        text = checked_text(text)
        ids = self._without_prefix(text) if dummy_prefix is False else self._with_prefix(text)
        return self.special.around(ids, bos, eos)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; broken characters become U+FFFD."""
        self._check(ids)
        return str(self._sp.decode(list(ids)))

    def _check(self, ids: Sequence[int]) -> None:
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise InvalidArgument(
                    f"token is {i}: expected an id from 0 to {self.vocab_size - 1}"
                )

    def __repr__(self) -> str:
        return f"SentencePieceTokenizer({str(self.path)!r}, vocab_size={self.vocab_size})"


def _sentencepiece(path: Path, data: bytes) -> sentencepiece.SentencePieceProcessor:
    import sentencepiece  # here, since importing it costs more than loading a small model

    wanted, remedy = "a SentencePiece model", "put the tokenizer.model of this model there"
    # What is certainly none is not shown to the library, which would write to standard error.
    if not data or _core.what_is(data)[0] not in ("", "a tokenizer"):
        raise TokenizerError(not_what_was_wanted(path, data, wanted, remedy))
    try:
        found = sentencepiece.SentencePieceProcessor(model_proto=data)
    except RuntimeError:
        found = None
    if found is None or found.vocab_size() == 0:
        why = "it is cut short, or another kind of file"
        own = ("a tokenizer",)
        raise TokenizerError(not_what_was_wanted(path, data, wanted, remedy, reason=why, own=own))
    return found


def _piece(sp: sentencepiece.SentencePieceProcessor, i: int) -> tuple[bytes, str]:
    """The bytes and the kind of one piece."""
    if sp.is_unknown(i):
        return sp.decode([i]).encode(), "unknown"
    if sp.is_control(i):
        return b"", "control"
    piece: str = sp.id_to_piece(i)
    if sp.is_byte(i):
        return bytes([int(piece[3:5], 16)]), "byte"
    return piece.replace("▁", " ").encode(), "normal"


def checked_text(text: object) -> str:
    """The text, with "?" for lone surrogates, which have no bytes; InvalidArgument: it is none."""
    if not isinstance(text, str):
        raise InvalidArgument(f"text is {text!r:.100}: expected a string")
    return text.encode("utf-8", "replace").decode("utf-8")


def open_tokenizer(
    path: str | Path, vocab_size: int | None = None, special: Special = LLAMA2C
) -> Tokenizer:
    """Opens a tokenizer of either kind, told apart by its content.

    Raises:
        TokenizerError: neither kind, or not ``vocab_size`` pieces.
        FileError: it cannot be read.
    """
    path = Path(path)
    tokenizer: Tokenizer
    # A .model begins with the first field of its protobuf message (tag 0x0A), a .bin with the
    # length of its longest piece, whose lowest byte can be 0x0A too: then its entries must fit.
    data = read(path)
    if not data.startswith(b"\n") or _is_bin(data, path):
        tokenizer = BinTokenizer(path, special=special)
    else:
        tokenizer = SentencePieceTokenizer(path, special=special)
    return tokenizer if vocab_size is None else fitting(tokenizer, vocab_size)


def fitting(tokenizer: Tokenizer, vocab_size: int, *, rounded_up: bool = False) -> Tokenizer:
    """The tokenizer, if it has as many pieces as the model's vocabulary.

    Args:
        rounded_up: whether the vocabulary may have ids without a piece, as other programs leave
            them at its end.

    Raises:
        TokenizerError: it has not.
    """
    pieces = tokenizer.vocab_size
    most = max(256, pieces // 64) if rounded_up else 0  # far more is another model's
    if not 0 <= vocab_size - pieces <= most:
        raise TokenizerError(
            f"{tokenizer.path}: has {pieces} pieces, the model's vocabulary {vocab_size}; pass the "
            "tokenizer that belongs to this model"
        )
    return tokenizer


def _is_bin(data: bytes, path: Path) -> bool:
    with contextlib.suppress(TokenizerError):
        return _core.count_tokenizer_entries(data, os.fsencode(path)) > 0
    return False


def _candidates(checkpoint: Path, vocab_size: int) -> Iterator[Path]:
    stem = checkpoint.name.removesuffix(".bin")
    for name in (  # that of this very checkpoint before one that may be another's
        f"{stem}.tokenizer.model",
        f"{stem}.tokenizer.bin",
        f"{stem}.model",
        "tokenizer.model",
        "tokenizer.bin",
        f"tok{vocab_size}.model",
        f"tok{vocab_size}.bin",
    ):
        if name != checkpoint.name:
            yield checkpoint.with_name(name)


def find_tokenizer(
    checkpoint: str | Path, vocab_size: int, special: Special = LLAMA2C
) -> Tokenizer:
    """The first tokenizer beside a checkpoint that has as many pieces as its vocabulary.

    Raises:
        TokenizerError: none has; the message lists what was looked at.
    """
    looked = []
    for path in _candidates(Path(checkpoint), vocab_size):
        if not path.exists():
            looked.append(f"{path.name} (not there)")
            continue
        try:
            tokenizer = open_tokenizer(path, special=special)
        except (TokenizerError, FileError) as error:
            looked.append(f"{path.name} ({error})")
            continue
        if tokenizer.vocab_size == vocab_size:
            return tokenizer
        looked.append(f"{path.name} ({tokenizer.vocab_size} pieces)")
    raise TokenizerError(
        f"no tokenizer with {vocab_size} pieces beside {checkpoint}: "
        f"looked at {', '.join(looked)}; "
        "put the model's tokenizer.model or tokenizer.bin there, or pass tokenizer="
    )
