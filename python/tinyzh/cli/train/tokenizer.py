"""``tinyzh train tokenizer``: a tokenizer."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import both, whole_number
from ..terminal import Terminal
from .options import add_out, add_seed

NAME = "tokenizer"
SUMMARY = "train a tokenizer / 训练分词器"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS", help=both("its folder", "语料文件夹")
    )
    add_out(parser, "folder of the tokenizer", "分词器文件夹")
    parser.add_argument(
        "--vocab-size",
        type=whole_number(1, 65536),
        default=3000,
        metavar="N",
        help=both("number of pieces; default 3000", "词表大小，默认 3000"),
    )
    parser.add_argument(
        "--sample",
        type=whole_number(1, 10**9),
        default=800_000,
        metavar="N",
        help=both("stories to learn from; default 800000", "用于训练的故事数，默认 800000"),
    )
    add_seed(parser)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs the step."""
    from ...train.tokenizer import train_tokenizer

    report = train_tokenizer(
        args.corpus, args.out, vocab_size=args.vocab_size, sample=args.sample, seed=args.seed
    )
    terminal.line(str(report))
