"""A tokenizer's content in SentencePiece's words, out of one kind of file and into another."""

from __future__ import annotations

import base64
import io
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import TokenizerError
from ..extras import require
from ..special import BOS, EOS, LLAMA2C, Special
from ..tokenizer import BinTokenizer, SentencePieceTokenizer, Tokenizer
from .tokenizer_json import JsonTokenizer

__all__ = ["Pieces", "difference"]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_TYPES = {"normal": NORMAL, "unknown": UNKNOWN, "control": CONTROL, "byte": BYTE}


@dataclass(frozen=True)
class Pieces:
    """All pieces by id, and what is done to a text before it is cut into them."""

    texts: Sequence[str]  #: with ▁ for a space
    scores: Sequence[float]  #: of pieces that can be merged, the one with the best score is first
    types: Sequence[int]  #: SentencePiece's, which are GGUF's too
    dummy_prefix: bool = True  #: put a space in front of a text
    squeeze_spaces: bool = False  #: drop spaces at both ends, and make one of several
    character_map: bytes = b""  #: compiled rules such as those of NFKC; empty: none

    # ---- out of files -------------------------------------------------------------------------

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Pieces:
        """The content of an opened tokenizer.

        Raises:
            TokenizerError: it is of a kind that SentencePiece's words cannot say.
            MissingPackage: protobuf is not installed, which reads SentencePiece's file.
        """
        if isinstance(tokenizer, SentencePieceTokenizer):
            return cls.of_model(tokenizer.data)
        if isinstance(tokenizer, BinTokenizer):
            return cls._of_bin(tokenizer)
        if isinstance(tokenizer, JsonTokenizer):
            return cls._of_json(tokenizer)
        raise TokenizerError(f"{tokenizer!r:.100} is no tokenizer that was read from a file")

    @classmethod
    def of_model(cls, data: bytes) -> Pieces:
        """The content of a SentencePiece ``.model``."""
        model = _model_message()
        model.ParseFromString(data)
        rules = model.normalizer_spec
        return cls(
            [piece.piece for piece in model.pieces],
            [piece.score for piece in model.pieces],
            [piece.type for piece in model.pieces],
            rules.add_dummy_prefix,
            rules.remove_extra_whitespaces,
            rules.precompiled_charsmap,
        )

    @classmethod
    def _of_bin(cls, tokenizer: BinTokenizer) -> Pieces:
        data, at = tokenizer.path.read_bytes(), 4
        texts, scores, types = [], [], []
        for i, (piece, kind) in enumerate(tokenizer.vocabulary.pieces()):
            score, length = struct.unpack_from("<fi", data, at)
            at += 8 + length
            scores.append(score)
            types.append(_TYPES[kind])
            if kind == "byte":
                texts.append(f"<0x{piece[0]:02X}>")
            elif kind in ("control", "unknown"):
                texts.append({0: "<unk>", BOS: "<s>", EOS: "</s>"}.get(i, f"<{i}>"))
            else:
                try:
                    texts.append(piece.decode().replace(" ", "▁"))
                except UnicodeDecodeError:
                    raise TokenizerError(
                        f"{tokenizer.path}: piece {i}, {piece!r}, is no text, which only "
                        "tokenizer.bin can hold"
                    ) from None
        return cls(texts, scores, types, tokenizer.adds_dummy_prefix)

    @classmethod
    def _of_json(cls, tokenizer: JsonTokenizer) -> Pieces:
        if tokenizer.by_bytes:
            raise TokenizerError(
                f"{tokenizer.path}: cuts bytes as GPT-2 does, which neither SentencePiece nor "
                "llama2.c's tokenizer.bin can say"
            )
        ranks: dict[str, int] = {}
        for rank, merge in enumerate(tokenizer.merges):
            ranks.setdefault("".join(merge), rank)
        texts, types = [], []
        for i, (piece, kind) in enumerate(tokenizer.vocabulary.pieces()):
            text = tokenizer.token(i)
            texts.append(text if text is not None else f"<{i}>")
            types.append(BYTE if kind == "byte" and piece else _TYPES[kind])
        scores = [-float(ranks.get(text, 0)) for text in texts]
        return cls(
            texts,
            scores,
            types,
            tokenizer.adds_dummy_prefix,
            tokenizer.squeezes_spaces,
            tokenizer.character_map,
        )

    def padded(self, size: int) -> Pieces:
        """With pieces that no text has behind its own, up to ``size`` of them."""
        more = range(len(self.texts), size)
        if not more:
            return self
        return replace(
            self,
            texts=[*self.texts, *(f"<unused {i}>" for i in more)],
            scores=[*self.scores, *(0.0 for _ in more)],
            types=[*self.types, *(CONTROL for _ in more)],
        )

    # ---- into files ---------------------------------------------------------------------------

    def model(self) -> bytes:
        """As SentencePiece's ``tokenizer.model``."""
        model = _model_message()
        for text, score, kind in zip(self.texts, self.scores, self.types, strict=True):
            model.pieces.add(piece=text, score=score, type=kind)
        trainer, rules = model.trainer_spec, model.normalizer_spec
        trainer.model_type = 2  # BPE
        trainer.vocab_size = len(self.texts)
        trainer.byte_fallback = BYTE in self.types
        rules.name = "identity" if not self.character_map else "nmt_nfkc"
        rules.precompiled_charsmap = self.character_map
        rules.add_dummy_prefix = self.dummy_prefix
        rules.remove_extra_whitespaces = self.squeeze_spaces
        return bytes(model.SerializeToString())

    def opened(self, path: Path, special: Special = LLAMA2C) -> SentencePieceTokenizer:
        """As a tokenizer; ``path`` is where the content comes from."""
        return SentencePieceTokenizer(path, self.model(), special)

    def bin(self) -> bytes:
        """As llama2.c's ``tokenizer.bin``: each piece's score, length and bytes.

        Raises:
            TokenizerError: one of the first three pieces, which are reserved there, is text.
        """
        for i, kind in enumerate(self.types[:3]):
            if kind in (NORMAL, USER_DEFINED, BYTE):
                raise TokenizerError(
                    f"piece {i} is the text {self.texts[i]!r:.40}, and a tokenizer.bin has <unk>, "
                    "BOS and EOS as its first three"
                )
        pieces = [text.replace("▁", " ").encode() for text in self.texts]
        for i, mark in ((BOS, b"\n<s>\n"), (EOS, b"\n</s>\n")):
            if i < len(pieces):
                pieces[i] = mark
        file = io.BytesIO()
        file.write(struct.pack("<I", max(map(len, pieces))))
        for piece, score in zip(pieces, self.scores, strict=True):
            file.write(struct.pack("<fi", score, len(piece)) + piece)
        return file.getvalue()

    def json(self, special: Special = LLAMA2C) -> dict[str, Any]:
        """As the tokenizers library's ``tokenizer.json``, BOS before a text if it belongs there.

        A merge of two pieces is one that the vocabulary has whole; better scores come first.
        """
        ids = {text: i for i, text in enumerate(self.texts)}
        merges = []
        for i, piece in enumerate(self.texts):
            if self.types[i] not in (NORMAL, USER_DEFINED):
                continue
            for cut in range(1, len(piece)):
                left, right = piece[:cut], piece[cut:]
                if left in ids and right in ids:
                    merges.append((-self.scores[i], ids[left], ids[right], [left, right]))
        merges.sort(key=lambda merge: merge[:3])
        before: list[dict[str, Any]] = []
        if self.character_map:
            charsmap = base64.b64encode(self.character_map).decode()
            before.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
        if self.squeeze_spaces:
            before.append({"type": "Strip", "strip_left": True, "strip_right": True})
            before.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        if self.dummy_prefix:
            before.append({"type": "Prepend", "prepend": "▁"})
        before.append({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
        after: list[dict[str, Any]] = [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]
        if self.dummy_prefix:
            after.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        bos = self.texts[special.bos : special.bos + 1] if special.add_bos else []

        def begun(part: str, i: int) -> list[dict[str, Any]]:
            """A text, or the second of a pair, with what stands before it."""
            before: list[dict[str, Any]] = [
                {"SpecialToken": {"id": text, "type_id": i}} for text in bos
            ]
            return [*before, {"Sequence": {"id": part, "type_id": i}}]

        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": i,
                    "content": text,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for i, text in enumerate(self.texts)
                if self.types[i] in (CONTROL, UNKNOWN)
            ],
            "normalizer": {"type": "Sequence", "normalizers": before},
            "pre_tokenizer": None,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": begun("A", 0),
                "pair": [*begun("A", 0), *begun("B", 1)],
                "special_tokens": {
                    text: {"id": text, "ids": [special.bos], "tokens": [text]} for text in bos
                },
            },
            "decoder": {"type": "Sequence", "decoders": after},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": next(
                    (t for t, kind in zip(self.texts, self.types, strict=True) if kind == UNKNOWN),
                    None,
                ),
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": True,
                "byte_fallback": BYTE in self.types,
                "ignore_merges": False,
                "vocab": ids,
                "merges": [merge[3] for merge in merges],
            },
        }


def _model_message() -> Any:
    require("google.protobuf", what="SentencePiece's file", package="protobuf")
    return require("sentencepiece.sentencepiece_model_pb2", "hub").ModelProto()


def difference(one: Tokenizer, other: Tokenizer) -> str:
    """How the second tokenizer differs from the first, in words; empty: it does not.

    It may have more pieces, if they are no text: those of a vocabulary that was rounded up.
    """
    texts, others = _texts(one), _texts(other)
    if texts != others[: len(texts)] or any(others[len(texts) :]):
        return "has other pieces"
    text = _text_of_pieces(one)
    if one.encode(text, bos=False) != other.encode(text, bos=False):
        return f"cuts {text[:20]!r}… in another way"
    return ""


def _texts(tokenizer: Tokenizer) -> list[bytes]:
    """The pieces that are text, by id; what an unknown one is shown as differs between files."""
    pieces = tokenizer.vocabulary.pieces()
    return [data if kind in ("normal", "byte") else b"" for data, kind in pieces]


def _text_of_pieces(tokenizer: Tokenizer) -> str:
    """A text of what the vocabulary has, so that no rule for other characters plays a part."""
    pieces = [data for data, kind in tokenizer.vocabulary.pieces() if kind == "normal"]
    chosen = random.Random(1).choices(pieces, k=500) if pieces else []
    return b"".join(chosen).decode("utf-8", "ignore")
