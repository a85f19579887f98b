"""Writes the seed corpus of fuzz_sentencepiece: a small model for each setting and kind of mistake.

Run it as `python tests/fuzz/make_sentencepiece_corpus.py`; the files are committed.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus" / "sentencepiece"
sys.path.insert(0, str(HERE.parent / "text"))

import model_proto as proto  # noqa: E402

BPE, UNIGRAM = 2, 1
STORY = ["▁", "从", "前", "从前", "▁从前", ",", "，。"]


def piece(text: str, kind: int = proto.NORMAL, score: float = 0.0) -> tuple[int, bytes]:
    fields: proto.Fields = [(proto.TEXT, text.encode()), (proto.SCORE, score), (proto.TYPE, kind)]
    return proto.PIECE, proto.encode(fields)


def model(
    *pieces: tuple[int, bytes],
    model_type: int = BPE,
    trainer: proto.Fields | None = None,
    normalizer: proto.Fields | None = None,
) -> bytes:
    reserved = [piece("<unk>", proto.UNKNOWN), piece("<s>", proto.CONTROL)]
    parts: proto.Fields = [
        (proto.NORMALIZER, proto.encode(normalizer or [])),
        (proto.TRAINER, proto.encode([(proto.MODEL_TYPE, model_type), *(trainer or [])])),
    ]
    return proto.encode([*reserved, *pieces, *parts])


def character_map(rules: dict[bytes, bytes], circle: bool = False) -> bytes:
    """A double array whose every node has 256 units of its own for its children."""
    unreachable = 1 << 31
    nodes = {b"": 0}
    for rule in rules:
        for length in range(1, len(rule) + 1):
            nodes.setdefault(rule[:length], len(nodes))
    units = [unreachable] * (256 * (len(nodes) + 1))
    pool = b""
    for path, node in nodes.items():
        base = 256 * (node + 1)
        at = 256 * (nodes[path[:-1]] + 1) + path[-1] if path else 0
        target = 256 if circle and path else base
        units[at] = (at ^ target) << 10 | (path in rules) << 8 | (path[-1] if path else 0)
        if path in rules:
            units[base] = unreachable | len(pool)
            pool += rules[path] + b"\0"
    return struct.pack(f"<{len(units) + 1}I", 4 * len(units), *units) + pool


def seeds() -> dict[str, bytes]:
    story = [piece(text, score=float(-rank)) for rank, text in enumerate(STORY)]
    byte_pieces = [piece(f"<0x{b:02X}>", proto.BYTE) for b in range(256)]
    symbols = [piece(text, proto.USER_DEFINED) for text in ("前", "从前从", "<b>", "  ")]
    some = [piece(t, k) for t, k in (("a", 1), ("b", 1), ("ab", 5), ("aba", 5), ("abab", 1))]
    rules = {"，".encode(): b",", b"\n": b" ", b"a": b"A", "\u3000".encode(): b"  ", b"\1": b""}
    mapped = character_map(rules)
    small = model(*story)
    return {
        "small": small,
        "bytes": model(*byte_pieces, *story, trainer=[(proto.BYTE_FALLBACK, 1)]),
        "symbols": model(*story[:2], *symbols, piece("从前小")),
        "unused": model(*some, normalizer=[(proto.DUMMY_PREFIX, 0)]),
        "rules": model(*story, normalizer=[(proto.CHARACTER_MAP, mapped)]),
        "rules_spaces_kept": model(
            *story, normalizer=[(proto.CHARACTER_MAP, mapped), (proto.SQUEEZE, 0)]
        ),
        "not_escaped": model(piece(" "), piece(" a"), normalizer=[(proto.ESCAPE, 0)]),
        "suffix": model(piece("a▁"), trainer=[(proto.SUFFIX, 1), (proto.UNKNOWN_SURFACE, b"?")]),
        "bad_circle": model(
            normalizer=[(proto.CHARACTER_MAP, character_map({b"ab": b"c"}, circle=True))]
        ),
        "bad_map_cut": model(normalizer=[(proto.CHARACTER_MAP, mapped[:1000])]),
        "bad_map_size": model(normalizer=[(proto.CHARACTER_MAP, b"\xff" * 16)]),
        "bad_map_outside": model(
            normalizer=[(proto.CHARACTER_MAP, character_map({b"a": b"b"})[:-2])]
        ),
        "bad_unigram": model(*story, model_type=UNIGRAM),
        "bad_nan_score": model(piece("a", score=float("nan"))),
        "bad_two_unknown": model(piece("?", proto.UNKNOWN)),
        "bad_same_piece": model(piece("a"), piece("a")),
        "bad_empty_piece": model(piece("")),
        "bad_byte_without_fallback": model(piece("<0x41>", proto.BYTE)),
        "bad_length_huge": small + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        "bad_wire_type": small + b"\x08\x01",
        "bad_group": small + b"\x0b\x0c",
        "bad_truncated": small[:-2],
        "bad_empty": b"",
    }


def main() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
