"""``tinyzh train prepare``: a corpus as tokens."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import both, whole_number
from ..terminal import Terminal
from .options import add_out, add_tokenizer

NAME = "prepare"
SUMMARY = "turn a corpus into tokens / 把语料转成词元"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS", help=both("its folder", "语料文件夹")
    )
    add_tokenizer(parser, True, "its folder or file", "分词器文件夹或文件")
    add_out(parser, "folder of the tokens", "词元文件夹")
    parser.add_argument(
        "--processes",
        type=whole_number(1, 4096),
        metavar="N",
        help=both("at the same time; none: one a core", "并行进程数；省略则每核一个"),
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help=both("replace tokens made of something else", "重新生成"),
    )


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs the step."""
    from ...train.shards import prepare
    from ...train.tokenizer_files import find_trained

    tokenizer = find_trained(args.tokenizer)
    report = prepare(
        args.corpus, tokenizer, args.out, processes=args.processes, rebuild=args.rebuild
    )
    terminal.line(str(report))
