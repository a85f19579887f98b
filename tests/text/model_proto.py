"""SentencePiece models taken apart and put together: the fields of a protocol buffer."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias

Value: TypeAlias = "int | float | bytes"  # a varint, a 32-bit float, a string or a message
Fields: TypeAlias = "list[tuple[int, Value]]"

PIECE, TRAINER, NORMALIZER = 1, 2, 3  # of the model
TEXT, SCORE, TYPE = 1, 2, 3  # of a piece
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # types
MODEL_TYPE, SUFFIX, BYTE_FALLBACK, UNKNOWN_SURFACE = 3, 24, 35, 44  # of the trainer
CHARACTER_MAP, DUMMY_PREFIX, SQUEEZE, ESCAPE = 2, 3, 4, 5  # of the normaliser


def varint(value: int) -> bytes:
    value %= 1 << 64  # as two's complement
    head, rest = value & 0x7F, value >> 7
    return bytes([head | 0x80]) + varint(rest) if rest else bytes([head])


def encode(fields: Fields) -> bytes:
    out = bytearray()
    for number, value in fields:
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        elif isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            out += varint(number << 3) + varint(value)
    return bytes(out)


def decode(message: bytes) -> Fields:
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def fields() -> Iterator[tuple[int, Value]]:
        nonlocal at
        while at < len(message):
            tag = number()
            if tag & 7 == 0:
                yield tag >> 3, number()
                continue
            size = number() if tag & 7 == 2 else 4
            data = message[at : at + size]
            at += size
            yield tag >> 3, data if tag & 7 == 2 else float(struct.unpack("<f", data)[0])

    return list(fields())


def with_fields(message: bytes, **changed: Value) -> bytes:
    """The message with the named fields (the names of this module) in place of what it has."""
    numbers = {globals()[name]: value for name, value in changed.items()}
    kept = [(number, value) for number, value in decode(message) if number not in numbers]
    return encode(kept + list(numbers.items()))


def with_part(model: bytes, part: int, **changed: Value) -> bytes:
    """A model with the named fields of its trainer or normaliser changed."""
    return encode(
        [
            (number, with_fields(value, **changed) if number == part else value)  # type: ignore[arg-type]
            for number, value in decode(model)
        ]
    )


def with_pieces(model: bytes, change: Callable[[int, bytes], bytes]) -> bytes:
    """A model with ``change(id, message)`` for each piece."""
    fields: Fields = []
    for number, value in decode(model):
        if number == PIECE and isinstance(value, bytes):
            value = change(sum(n == PIECE for n, _ in fields), value)
        fields.append((number, value))
    return encode(fields)
