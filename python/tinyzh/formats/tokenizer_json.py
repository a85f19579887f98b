"""tokenizer.json: byte-pair encoding in the words of Hugging Face's tokenizers library."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import _core
from ..errors import InvalidArgument, TokenizerError
from ..extras import require
from ..files import not_what_was_wanted, read
from ..special import Special
from ..tokenizer import checked_text

__all__ = ["JsonTokenizer"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class JsonTokenizer:
    """Encodes with the tokenizers library; knows what each id adds to a text.

    BPE is understood in SentencePiece's manner (▁ for spaces, bytes as ``<0xE4>``) and by bytes, as
    GPT-2 does it.

    Args:
        path: the file.
        special: what begins and ends a text; None: only what the file says.

    Raises:
        MissingPackage: tokenizers is not installed.
        TokenizerError: no such file, or one of another kind.
    """

    def __init__(self, path: str | Path, special: Special | None = None) -> None:
        self.path = Path(path)
        library = require("tokenizers", "hub", f"{path}")
        data = read(self.path)
        try:
            text = data.decode()
            self._library = library.Tokenizer.from_str(text)
            self._file: dict[str, Any] = json.loads(text)
        except Exception as error:  # the library raises Exception itself
            remedy = "put the tokenizer.json of this model there"
            raise TokenizerError(
                not_what_was_wanted(
                    path, data, "a tokenizer.json", remedy, reason=str(error), own=("a JSON file",)
                )
            ) from None
        if (kind := self._file["model"].get("type")) != "BPE":
            raise TokenizerError(
                f"{path}: a tokenizer of the type {kind!r}; BPE can be read: look for a "
                "tokenizer.model beside it"
            )
        self._library.no_truncation()
        self._library.no_padding()
        self._special = special

    @cached_property
    def _tokens(self) -> dict[int, str]:
        vocab: dict[str, int] = self._library.get_vocab(with_added_tokens=True)
        return {i: token for token, i in vocab.items()}

    @property
    def vocab_size(self) -> int:
        """Number of pieces, up to the largest id."""
        return max(self._tokens) + 1

    def token(self, i: int) -> str | None:
        """The token as it stands in the file; None: no token has this id."""
        return self._tokens.get(i)

    @property
    def merges(self) -> list[tuple[str, str]]:
        """Pairs of tokens that become one, the first to be merged first."""
        merges = self._file["model"]["merges"]
        pairs = (m.split(" ", 1) if isinstance(m, str) else m for m in merges)
        return [(left, right) for left, right in pairs]

    @property
    def character_map(self) -> bytes:
        """SentencePiece's compiled rules for characters; empty: none."""
        rules = self._file.get("normalizer") or {}
        for rule in rules.get("normalizers", [rules]):
            if rule.get("type") == "Precompiled":
                return base64.b64decode(rule["precompiled_charsmap"] or "")
        return b""

    @cached_property
    def _piece_kinds(self) -> list[tuple[bytes, str]]:
        special = {t["id"] for t in self._file.get("added_tokens", []) if t.get("special")}
        added = {t["id"] for t in self._file.get("added_tokens", [])} - special
        unknown = self._file["model"].get("unk_token")
        by_bytes = self.by_bytes
        fallback = bool(self._file["model"].get("byte_fallback"))

        def piece(i: int) -> tuple[bytes, str]:
            token = self._tokens.get(i)
            if token is None:  # a gap between the ids
                return b"", "control"
            if token == unknown:
                return " ⁇ ".encode(), "unknown"
            if i in special:
                return b"", "control"
            if i in added:
                return token.encode(), "normal"
            if fallback and (byte := _BYTE.fullmatch(token)):
                return bytes([int(byte[1], 16)]), "byte"
            if by_bytes:
                return b"".join(_BYTE_OF.get(c, c.encode()) for c in token), "normal"
            return token.replace("▁", " ").encode(), "normal"

        return [piece(i) for i in range(self.vocab_size)]

    @cached_property
    def by_bytes(self) -> bool:
        """Whether characters stand for bytes, as in GPT-2."""
        return '"ByteLevel"' in json.dumps(
            [self._file.get("pre_tokenizer"), self._file.get("decoder")]
        )

    @cached_property
    def vocabulary(self) -> _core.Vocabulary:
        """id -> bytes, as the engine uses it."""
        return _core.Vocabulary(self._piece_kinds)

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes that each id adds to a text; empty for those that begin or end it."""
        return [data for data, _ in self._piece_kinds]

    @cached_property
    def adds_dummy_prefix(self) -> bool:
        """Whether text is encoded with a space in front, which decoding takes away again."""
        return self._ids("x", None) != self._ids("x", False)

    @property
    def squeezes_spaces(self) -> bool:
        """Whether one of several spaces is left."""
        return self._ids("x  x", None) == self._ids("x x", None)

    @cached_property
    def _before(self) -> list[int]:
        """What the file puts in front of a text, where it says so; else BOS."""
        if self._special is not None and not self._special.add_bos:
            return []
        bare = self._library.encode("x", add_special_tokens=False).ids
        whole = self._library.encode("x", add_special_tokens=True).ids
        if len(whole) > len(bare) and (before := whole[: whole.index(bare[0])]):
            return list(before)
        # No rule: a Llama's tokenizer has one, which old files leave to the program.
        return [] if self._special is None or self.by_bytes else [self._special.bos]

    @property
    def special(self) -> Special | None:
        """What begins and ends a text, so far as that is known."""
        if self._special is None:
            return None
        bos = self._before[0] if self._before else self._special.bos
        return Special.of(bos, *self._special.ends, add_bos=bool(self._before))

    def _ids(self, text: str, dummy_prefix: bool | None) -> list[int]:
        library = self._without_prefix if dummy_prefix is False else self._library
        return list(library.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _without_prefix(self) -> Any:
        """The same tokenizer but for the space that it puts in front of a text."""
        file = json.loads(json.dumps(self._file))
        rules = file.get("normalizer") or {}
        if "normalizers" in rules:
            rules["normalizers"] = [r for r in rules["normalizers"] if r["type"] != "Prepend"]
        elif rules.get("type") == "Prepend":
            file["normalizer"] = None
        before = file.get("pre_tokenizer") or {}
        for rule in (before, *before.get("pretokenizers", [])):
            if rule.get("type") == "Metaspace":
                rule["prepend_scheme"] = "never"
            elif rule.get("type") == "ByteLevel":
                rule["add_prefix_space"] = False
        library = require("tokenizers", "hub").Tokenizer.from_str(json.dumps(file))
        library.no_truncation()
        library.no_padding()
        return library

    def encode(
        self, text: str, *, bos: bool = True, eos: bool = False, dummy_prefix: bool | None = None
    ) -> list[int]:
        """Token ids of a text.

        Args:
            bos: put before it what the file puts before a text, which may be nothing.
            eos: put the token for the end behind it; InvalidArgument: the file does not say which.
            dummy_prefix: False leaves out the space that the file may put in front of a text.
        """
        if eos and self._special is None:
            raise InvalidArgument("eos is True: a tokenizer.json does not say which id that is")
        ids = self._ids(checked_text(text), dummy_prefix)
        before = self._before if bos else []
        if bos and not before and not ids and self._special is not None:
            before = [self._special.bos]  # a model needs something to begin with
        after = [self._special.eos] if eos and self._special is not None else []
        return [*before, *ids, *after]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; broken characters become U+FFFD."""
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise InvalidArgument(
                    f"token is {i}: expected an id from 0 to {self.vocab_size - 1}"
                )
        text = b"".join(self.pieces[i] for i in ids).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.adds_dummy_prefix else text

    def __repr__(self) -> str:
        return f"JsonTokenizer({str(self.path)!r}, vocab_size={self.vocab_size})"


def _characters_of_bytes() -> dict[str, bytes]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 and on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    alphabet = {chr(byte): bytes([byte]) for byte in printable}
    return alphabet | {chr(0x100 + n): bytes([byte]) for n, byte in enumerate(others)}


_BYTE_OF = _characters_of_bytes()
