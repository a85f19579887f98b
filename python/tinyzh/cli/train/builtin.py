"""``tinyzh train builtin``: the model that comes with the package."""

from __future__ import annotations

import argparse

from ..arguments import both, whole_number
from ..terminal import Terminal
from .options import add_out, add_seed
from .runs import add_config, tell_result

NAME = "builtin"
SUMMARY = "all of it for the built-in model / 内置模型"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    add_out(parser, "folder for everything", "所有结果的文件夹")
    parser.add_argument(
        "--real",
        action="append",
        default=[],
        metavar="FILE",
        help=both("real stories to mix in; may be repeated", "混入的真实故事，可多次使用"),
    )
    parser.add_argument(
        "--stories",
        type=whole_number(100, 10**8),
        metavar="N",
        help=both(
            "to draw from the templates; none: as for the built-in model", "从模板生成的数量"
        ),
    )
    parser.add_argument(
        "--repeat",
        type=whole_number(1, 10_000),
        metavar="N",
        help=both("times each real story is used; none: as it was", "每个真实故事重复的次数"),
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help=both("of the first run; none: what the configuration says", "第一阶段训练的分钟数"),
    )
    add_config(parser, "builtin")
    add_seed(parser)
    parser.set_defaults(seed=None)  # not given: 1, or that of the corpus which is there


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs the step."""
    from ...train.pipeline import train_builtin

    settings = list(args.set)
    if args.minutes is not None:
        settings.append(f"minutes={args.minutes}")
    result = train_builtin(
        args.out,
        config=args.config,
        settings=settings,
        real=args.real,
        valid_texts=args.valid_text,
        stories=args.stories,
        repeat=args.repeat,
        seed=args.seed,
        resume=args.resume,
        report=terminal.line,
    )
    tell_result(result, terminal)
