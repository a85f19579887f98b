"""``tinyzh train export``: files to run."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import both, whole_number
from ..terminal import Terminal
from .options import add_out, add_tokenizer

NAME = "export"
SUMMARY = "write files to run / 导出模型"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "source", type=Path, metavar="RUN", help=both("folder of the run", "训练结果文件夹")
    )
    add_out(parser, "the file, or the folder for hf", "输出文件；hf 为文件夹")
    parser.add_argument(
        "--format",
        choices=("v0", "v1", "v2", "fp16", "hf"),
        default="v2",
        help=both(
            "v0, v1: fp32; v2 (default): int8; hf: for transformers; fp16: weights alone, as .npz",
            "v0、v1 为 fp32，v2（默认）为 int8，hf 供 transformers 使用，fp16 仅权重（.npz）",
        ),
    )
    parser.add_argument(
        "--group-size",
        type=whole_number(0, 2**31 - 1),
        default=0,
        metavar="N",
        help=both("v2: weights that share a scale; default 64", "v2：共用缩放系数的权重数"),
    )
    add_tokenizer(
        parser, False, "its folder or file; none: RUN's", "分词器文件夹或文件；省略则用 RUN 中的"
    )
    parser.add_argument(
        "--corpus",
        action="append",
        default=[],
        type=Path,
        metavar="CORPUS",
        help=both("for the model card; may be repeated", "写入模型说明的语料，可多次使用"),
    )
    parser.add_argument(
        "--licence", default="MIT", help=both("of the model; default MIT", "模型的许可证，默认 MIT")
    )


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs the step."""
    from ...train.export import export

    for path in export(
        args.source,
        args.out,
        args.format,
        group_size=args.group_size,
        tokenizer=args.tokenizer,
        corpora=args.corpus,
        licence=args.licence,
    ):
        terminal.line(str(path))
