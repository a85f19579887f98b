"""Options that several steps have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..arguments import both, whole_number

__all__ = ["add_out", "add_reading", "add_seed", "add_tokenizer", "reading"]


def add_out(parser: argparse.ArgumentParser, english: str, chinese: str) -> None:
    """--out, where the step's result goes."""
    parser.add_argument(
        "--out", required=True, type=Path, metavar="PATH", help=both(english, chinese)
    )


def add_seed(parser: argparse.ArgumentParser) -> None:
    """--seed."""
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**31 - 1),
        default=1,
        help=both("of everything random; default 1", "随机种子，默认 1"),
    )


def add_tokenizer(
    parser: argparse.ArgumentParser, required: bool, english: str, chinese: str
) -> None:
    """--tokenizer."""
    parser.add_argument(
        "--tokenizer", required=required, type=Path, metavar="PATH", help=both(english, chinese)
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    """--layout, --field and --encoding: how files of stories are read."""
    parser.add_argument(
        "--layout",
        choices=("auto", "lines", "blocks", "gaps", "file"),
        default="auto",
        help=both(
            "of .txt: a story a line (lines), between blank lines (blocks), between two or more "
            "(gaps), or a file; auto (default) looks",
            ".txt 中故事的分隔方式：每行、空行、两个以上空行或整个文件；默认自动判断",
        ),
    )
    parser.add_argument(
        "--field",
        action="append",
        metavar="NAME",
        help=both(
            "that has the text in .json and .jsonl; default text, story; may be repeated",
            ".json 与 .jsonl 中正文的字段名，可多次使用",
        ),
    )
    parser.add_argument(
        "--encoding",
        default="utf-8-sig",
        metavar="NAME",
        help=both("of the files; default UTF-8", "文件的编码，默认 UTF-8"),
    )


def reading(args: argparse.Namespace) -> dict[str, Any]:
    """These as arguments."""
    fields = {"fields": tuple(args.field)} if args.field else {}
    return {"layout": args.layout, "encoding": args.encoding, **fields}
