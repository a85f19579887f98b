"""Text as llama2.c's ``run`` reads and writes it: the pieces as they stand in ``tokenizer.bin``."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from .. import _core
from ..errors import FileError, TokenizerError
from ..formats import Found
from ..formats.pieces import Pieces
from ..special import BOS, EOS
from ..tokenizer import (
    BinTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    _candidates,
    open_tokenizer,
)

__all__ = ["RunTokenizer", "find_run_tokenizer"]

# What ``printf`` of a single character is allowed to show: isprint or isspace in the C locale.
_SHOWN_BELOW_128 = frozenset((*range(0x20, 0x7F), *b"\t\n\v\f\r"))


class RunTokenizer:
    """Encodes as ``run`` does, and gives each token the bytes that ``run`` prints for it.

    Apart from what docs/tokenizers.md lists, this differs from ``run`` in one thing: byte tokens of
    0x80 and above are printed, so that characters written in bytes are shown and not dropped.
    """

    adds_dummy_prefix = False  # of the engine's text nothing is to be taken away

    def __init__(self, path: Path, data: bytes, vocab_size: int) -> None:
        self.path = path
        self.vocab_size = vocab_size
        count = _core.count_tokenizer_entries(data, str(path))
        self._core = _core.BpeTokenizer(data, count, str(path))
        entries = _entries(data)
        self.pieces = [
            _printed_byte(piece[0]) if kind == "byte" else _printed(raw)
            for (piece, kind), raw in zip(self._core.vocabulary.pieces(), entries, strict=True)
        ]
        self.pieces += [b""] * (vocab_size - len(entries))  # of a vocabulary that was rounded up

    @cached_property
    def vocabulary(self) -> _core.Vocabulary:
        """id -> the bytes that ``run`` prints; bytes that are part of a character come together."""
        return _core.Vocabulary([(piece, "normal") for piece in self.pieces])

    def encode(
        self,
        text: str | bytes,
        *,
        bos: bool = True,
        eos: bool = False,
        dummy_prefix: bool | None = None,
    ) -> list[int]:
        """Token ids.  Wide punctuation stays wide where its bytes can be written, as in ``run``."""
        prefix = True if dummy_prefix is None else dummy_prefix
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        narrow = not self._core.has_byte_fallback
        return self._core.encode(data, bos, eos, prefix, False, narrow)

    def decode(self, ids: Sequence[int]) -> str:
        """What ``run`` prints for tokens that follow BOS."""
        data = b"".join(self.pieces[i] for i in ids)
        if ids and self.starts_with_space(ids[0]):
            data = data[1:]
        return data.decode("utf-8", "replace")

    def starts_with_space(self, token: int) -> bool:
        """Whether a token loses a space when it follows BOS."""
        return self.pieces[token].startswith(b" ")


def _printed_byte(value: int) -> bytes:
    return bytes([value]) if value >= 0x80 or value in _SHOWN_BELOW_128 else b""


def _printed(piece: bytes) -> bytes:
    piece = piece.split(b"\0", 1)[0]  # where a string of C ends
    return b"" if len(piece) == 1 and piece[0] not in _SHOWN_BELOW_128 else piece


def _entries(data: bytes) -> list[bytes]:
    """The pieces of a ``tokenizer.bin`` that has been found sound."""
    pieces, at = [], 4
    while at < len(data):
        (length,) = struct.unpack_from("<i", data, at + 4)
        pieces.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return pieces


def _as_bin(tokenizer: SentencePieceTokenizer) -> bytes:
    """The ``tokenizer.bin`` that llama2.c's exporter makes of a ``.model``."""
    sp = tokenizer._sp
    entries: list[tuple[float, bytes]] = []
    for i in range(tokenizer.vocab_size):
        text = {BOS: "\n<s>\n", EOS: "\n</s>\n"}.get(i, sp.id_to_piece(i).replace("▁", " "))
        entries.append((sp.get_score(i), text.encode()))
    longest = max(len(piece) for _, piece in entries)
    return struct.pack("<I", longest) + b"".join(
        struct.pack("<fi", score, len(piece)) + piece for score, piece in entries
    )


def _from(tokenizer: Tokenizer, vocab_size: int) -> RunTokenizer:
    if isinstance(tokenizer, SentencePieceTokenizer):
        data = _as_bin(tokenizer)
    elif isinstance(tokenizer, BinTokenizer):
        data = tokenizer.path.read_bytes()
    else:
        data = Pieces.of(tokenizer).bin()
    return RunTokenizer(tokenizer.path, data, vocab_size)


def find_run_tokenizer(asked: str | None, checkpoint: Path, found: Found) -> RunTokenizer:
    """The tokenizer of ``-z``, that of a folder or a GGUF, else one beside the checkpoint, else
    ./tokenizer.bin.

    Beside the checkpoint a ``tokenizer.bin`` that fits goes before a ``.model``: it is what ``run``
    reads.

    Raises:
        TokenizerError: none of them has as many pieces as the vocabulary; texts of the model begin
            with another token than those of ``run``.
    """
    vocab_size = found.config.vocab_size
    if found.special is not None and found.special.bos != BOS:
        raise TokenizerError(
            f"{checkpoint}: its texts begin with token {found.special.bos}, and those of run with "
            f"{BOS}: use tinyzh generate"
        )
    if asked is not None:
        return _from(open_tokenizer(asked, vocab_size), vocab_size)
    if found.special is not None:  # of others, with a tokenizer of its own
        return _from(found.tokenizer(), vocab_size)
    beside = sorted(_candidates(checkpoint, vocab_size), key=lambda path: path.suffix != ".bin")
    here = Path("tokenizer.bin")
    for path in (*beside, here):
        if path.exists():
            with contextlib.suppress(TokenizerError, FileError):
                return _from(open_tokenizer(path, vocab_size), vocab_size)
    names = ", ".join(path.name for path in beside)
    raise TokenizerError(
        f"no tokenizer with {vocab_size} pieces: looked for {names} beside {checkpoint} and for "
        f"{here} in the current folder; name the model's own with -z"
    )
