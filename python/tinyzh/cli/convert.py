"""``tinyzh convert``: from one checkpoint format to another."""

from __future__ import annotations

import argparse
import os
import time

from .. import _core
from ..errors import FileError
from .arguments import UsageError, both, whole_number
from .info import bytes_in_words
from .terminal import Terminal

NAME = "convert"
SUMMARY = "rewrite a model file in another format / 转换模型文件的格式"

_PATIENCE = 0.5  # seconds before progress is worth a line


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("source", metavar="IN", help=both("a checkpoint", "原模型文件"))
    parser.add_argument("target", metavar="OUT", help=both("the new file", "新文件"))
    parser.add_argument(
        "--format",
        required=True,
        choices=("v0", "v1", "v2", "tz"),
        help=both(
            "v0: fp32, what llama2.c's run reads; v1: fp32 with a magic number; v2: int8; "
            "tz: tinyzh's own, ready to compute with, opens at once",
            "v0 与 v1 为 fp32，v2 为 int8，tz 为 tinyzh 自有格式，打开即用",
        ),
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "int8", "int4"),
        default="auto",
        help=both("tz: precision; default IN's own", "tz：精度，默认与 IN 相同"),
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
        "--force", action="store_true", help=both("replace OUT if it exists", "覆盖已有文件")
    )


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Writes OUT, which appears only when it is whole."""
    if args.group_size and args.format != "v2":
        raise UsageError(f"--group-size is for --format v2, not {args.format}: leave it out")
    if args.dtype != "auto" and args.format != "tz":
        raise UsageError(f"--dtype is for --format tz, not {args.format}: leave it out")
    if os.path.exists(args.target):
        if os.path.exists(args.source) and os.path.samefile(args.source, args.target):
            raise UsageError(f"IN and OUT are the same file, {args.target}: give OUT another name")
        if not args.force:
            raise FileError(f"{args.target}: exists; --force replaces it")
    started = time.monotonic()

    # Called for every tensor, which is also when Ctrl-C is noticed.
    def progress(done: int, total: int, stage: str = "written") -> None:
        if time.monotonic() - started > _PATIENCE:
            terminal.progress(f"{args.target}: {done} of {total} tensors {stage}")

    misread = False
    if args.format == "tz":
        _core.convert_to_tz(args.source, args.target, args.dtype, progress)
    else:
        misread = _core.convert(args.source, args.target, args.format, args.group_size, progress)
    before, after = os.path.getsize(args.source), os.path.getsize(args.target)
    terminal.progress("")
    terminal.line(
        f"{args.target}: {args.format}, {bytes_in_words(after)} ({after / before:.0%} of "
        f"{bytes_in_words(before)})"
    )
    if misread:
        terminal.note(
            "tinyzh: note: llama2.c's int8 program (runq) reads this file wrongly, since the rows "
            "of its matrices are no multiple of the group; tinyzh reads it correctly"
        )
