"""``tinyzh convert``: from one format to another."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ..errors import TinyzhError
from ..formats.conversion import DTYPES, Conversion, convert, format_of_name
from ..formats.verification import verify
from .arguments import UsageError, both, for_command_line, whole_number
from .info import bytes_in_words, size_of
from .terminal import Terminal

NAME = "convert"
SUMMARY = "rewrite a model in another format / 转换模型格式"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "source",
        metavar="IN",
        help=both(
            "a checkpoint, GGUF file or Hugging Face folder",
            "原模型：检查点、GGUF 文件或 Hugging Face 文件夹",
        ),
    )
    parser.add_argument(
        "target", metavar="OUT", help=both("the new file or folder", "新文件或文件夹")
    )
    parser.add_argument(
        "--format",
        choices=tuple(DTYPES),
        help=both(
            "v0: fp32, what llama2.c's run reads; v1: fp32 with a magic number; v2: int8; "
            "tz: tinyzh's own, ready to compute with, opens at once; hf: a folder for "
            "transformers; gguf: for llama.cpp. Default: what OUT's name says (.tz, .gguf, a "
            "folder)",
            "v0 与 v1 为 fp32，v2 为 int8，tz 为 tinyzh 自有格式，打开即用；hf 为 transformers "
            "文件夹；gguf 供 llama.cpp 使用。默认由新文件名判断",
        ),
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "float16", "int8", "int4"),
        default="auto",
        help=both(
            "precision: of tz float32, int8 or int4 (auto: IN's own); of hf float32 or float16; "
            "of gguf float32 (F32), float16 (F16) or int8 (Q8_0)",
            "精度：tz 默认与原模型相同；hf 可为 float32 或 float16；gguf 可为 float32、float16 或 "
            "int8（Q8_0）",
        ),
    )
    parser.add_argument(
        "--group-size",
        type=whole_number(1, 2**31 - 1),
        default=0,
        metavar="N",
        help=both(
            "v2: weights that share a scale; default 64 or what divides dim",
            "v2：共用一个缩放系数的权重数",
        ),
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help=both("of the model; none: found beside IN or in it", "分词器；省略则自动寻找"),
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help=both(
            "compare OUT with IN: configuration, tokenizer, weights, logits",
            "核对新模型与原模型：配置、分词器、权重与计算结果",
        ),
    )
    parser.add_argument(
        "--force", action="store_true", help=both("replace OUT if it exists", "覆盖已有文件")
    )


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Writes OUT, which appears only when it is whole."""
    format = args.format or format_of_name(args.target)
    if format is None:
        raise UsageError(
            f"{args.target} does not say which format it is to be: give --format, "
            f"one of {', '.join(DTYPES)}"
        )
    if args.group_size and format != "v2":
        raise UsageError(f"--group-size is for --format v2, not {format}: leave it out")
    bar = terminal.bar(os.path.basename(args.target.rstrip(os.sep)) or args.target)
    done = _converted(
        args.source,
        args.target,
        format=format,
        dtype=args.dtype,
        group_size=args.group_size,
        tokenizer=args.tokenizer,
        force=args.force,
        progress=bar,  # called for every tensor, which is also when Ctrl-C is noticed
    )
    bar.over()
    before, after = size_of(args.source), sum(size_of(path) for path in done.files)
    terminal.line(
        f"{args.target}: {format}, {bytes_in_words(after)} ({after / before:.0%} of "
        f"{bytes_in_words(before)})"
    )
    if beside := [path.name for path in done.files[1:] if format != "hf"]:
        terminal.line(f"beside it: {', '.join(beside)}")
    for note in done.notes:
        terminal.note(f"tinyzh: note: {note}")
    if args.verify:
        _verify(args.source, done, terminal)


def _converted(*paths: str, **options: Any) -> Conversion:
    try:
        return convert(*paths, **options)
    except TinyzhError as error:
        raise type(error)(for_command_line(str(error))) from None


def _verify(source: str, done: Conversion, terminal: Terminal) -> None:
    bar = terminal.bar(done.target.name)
    found = verify(source, done, bar)
    bar.over()
    weights = "the same bits" + (f" as in {done.dtype}" if done.dtype in ("int8", "int4") else "")
    if found.weights:
        weights = f"rounded, at most {found.weights:.1e} of the largest weight away"
    logits = "the same bits"
    if found.logits:
        logits = (
            f"at most {found.logits:.1e} of the largest away, {found.same_choice:.0%} of the most "
            "probable tokens the same"
        )
    terminal.line(
        f"verified {found.tensors} tensors: {weights}; logits of {found.tokens} tokens: {logits}"
    )
