"""Writes the seed corpus of fuzz_tokenizer: a small file for each dialect and kind of mistake.

Run it as `python tests/fuzz/make_tokenizer_corpus.py`; the files are committed.
"""

from __future__ import annotations

import struct
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus" / "tokenizer"
CURRENT = ["<unk>", "\n<s>\n", "\n</s>\n"]
PLAIN = ["<unk>", "<s>", "</s>"]
STORY = [" ", "从", "前", "从前", " 从前", ",", "，。"]


def entry(piece: str | bytes, score: float = 0.0, length: int | None = None) -> bytes:
    data = piece.encode() if isinstance(piece, str) else piece
    return struct.pack("<fi", score, len(data) if length is None else length) + data


def tokenizer(*pieces: str) -> bytes:
    entries = (entry(piece, float(-rank)) for rank, piece in enumerate(pieces))
    return struct.pack("<I", 16) + b"".join(entries)


def seeds() -> dict[str, bytes]:
    small = tokenizer(*CURRENT, *STORY)
    return {
        "current": tokenizer(*CURRENT, *(f"<0x{b:02X}>" for b in range(256)), *STORY),
        "bytes_as_characters": tokenizer(*CURRENT, *map(chr, range(256)), *STORY, "ä"),
        "no_bytes": tokenizer(*PLAIN, "\n", "，", "。", "山"),
        "literal_space_mark": tokenizer(*PLAIN, *(piece.replace(" ", "▁") for piece in STORY)),
        "some_bytes": tokenizer(*CURRENT, "<0xE4>", "<0xBB>", "<0x8e>", "<0x4G>", "<0x041>"),
        "ties": tokenizer(*CURRENT) + b"".join(map(entry, ["a", "b", "aa", "ab", "ba", "aab"])),
        "invalid_utf8": tokenizer(*CURRENT)
        + b"".join(map(entry, [b"\xff", b"\xe4\xbb", b"\xff\xff"])),
        "empty_pieces": tokenizer(*CURRENT, "", "", "a"),
        "infinite_score": small + entry("ab", float("-inf")),
        "bad_nan_score": small + entry("ab", float("nan")),
        "bad_length_negative": small + entry("ab", length=-1),
        "bad_length_huge": small + entry("ab", length=0x7FFFFFFF),
        "bad_truncated": small[:-2],
        "bad_trailing": small + b"\0\0\0",
        "bad_two_entries": tokenizer(*CURRENT[:2]),
        "bad_empty": b"",
        "bad_sentencepiece": b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02",
        "bad_lfs_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 6227\n",
        "bad_web_page": b"<!DOCTYPE html><html><body>Not Found</body></html>",
    }


def main() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, data in seeds().items():
        (CORPUS / name).write_bytes(data)


if __name__ == "__main__":
    main()
