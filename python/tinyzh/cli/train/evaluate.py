"""``tinyzh train evaluate``: how well a model knows a text."""

from __future__ import annotations

import argparse
import json

from ...errors import TokenizerError
from ..arguments import both, for_command_line
from ..terminal import Terminal
from .options import add_reading, add_tokenizer, reading

NAME = "evaluate"
SUMMARY = "measure a model on texts / 评估模型"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=both(
            "the folder of a run, or any model: a .bin or GGUF file, a Hugging Face folder",
            "训练结果文件夹，或任何模型文件、Hugging Face 文件夹",
        ),
    )
    parser.add_argument(
        "texts",
        nargs="+",
        metavar="TEXT",
        help=both(
            "files as for `tinyzh train corpus`; -: standard input",
            "文本文件，格式同 train corpus；- 表示读标准输入",
        ),
    )
    add_reading(parser)
    add_tokenizer(
        parser,
        False,
        "its .model or .bin, or a folder with one; none: beside MODEL",
        "分词器；省略则在模型旁边寻找",
    )
    parser.add_argument(
        "--dtype", default="auto", help=both("auto, float32, int8 or int4", "计算精度")
    )
    parser.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs the step."""
    from ...train.evaluate import evaluate

    def progress(number: int, total: int) -> None:
        terminal.progress(f"story {number:,} of {total:,}")

    try:
        measured = evaluate(
            args.model,
            args.texts,
            tokenizer=args.tokenizer,
            dtype=args.dtype,
            progress=progress,
            **reading(args),
        )
    except TokenizerError as error:
        raise TokenizerError(for_command_line(str(error))) from None
    terminal.progress("")
    if args.json:
        terminal.line(json.dumps(measured.as_dict(), ensure_ascii=False))
        return
    terminal.line(str(measured))
