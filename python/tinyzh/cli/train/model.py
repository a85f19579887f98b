"""``tinyzh train model``: a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import both
from ..terminal import Terminal
from .options import add_out, add_tokenizer
from .runs import add_config, tell_result

NAME = "model"
SUMMARY = "train a model / 训练模型"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "data", type=Path, metavar="DATA", help=both("folder of the tokens", "词元文件夹")
    )
    add_tokenizer(parser, False, "its folder or file; none: DATA's", "分词器；省略则用 DATA 中的")
    add_out(parser, "folder of the run", "训练结果文件夹")
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="RUN",
        help=both(
            "begin with the weights of that run, and with its configuration unless --config says",
            "从该训练的权重开始，配置默认与其相同",
        ),
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DATA",
        help=both(
            "tokens on which the model stays what it was before; with --from, and again with "
            "--resume",
            "在这些词元上保持原来的模型不变，与 --from 同用，--resume 时须再次给出",
        ),
    )
    add_config(parser, "laptop")


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs the step."""
    from ...train.pipeline import train_model

    result = train_model(
        args.data,
        args.out,
        config=args.config,
        settings=args.set,
        tokenizer=args.tokenizer,
        valid_texts=args.valid_text,
        resume=args.resume,
        start=args.start,
        keep=args.keep,
    )
    tell_result(result, terminal)
