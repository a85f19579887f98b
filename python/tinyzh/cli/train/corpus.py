"""``tinyzh train corpus``: a corpus of texts and of stories drawn from templates."""

from __future__ import annotations

import argparse

from ..arguments import UsageError, both, whole_number
from ..terminal import Terminal
from .options import add_out, add_reading, add_seed, reading

NAME = "corpus"
SUMMARY = "clean and split texts / 清洗并划分语料"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help=both(
            "files (.txt, .json, .jsonl, also .gz), folders or globs", "文件、文件夹或通配符"
        ),
    )
    add_out(parser, "folder of the corpus", "语料文件夹")
    parser.add_argument(
        "--builtin",
        action="store_true",
        help=both("draw stories from the project's templates too", "另从内置模板生成故事"),
    )
    parser.add_argument(
        "--stories",
        type=whole_number(1, 10**8),
        metavar="N",
        help=both("how many --builtin draws; default 200000", "生成的数量，默认 200000"),
    )
    parser.add_argument(
        "--templates",
        choices=("all", "repertoire"),
        default="all",
        help=both(
            "which --builtin draws: all, or the two hundred simplest that begin with 从前; "
            "default all",
            "所用模板：全部，或以“从前”开头的两百个最简单的，默认 all",
        ),
    )
    parser.add_argument(
        "--opening",
        type=float,
        default=1.0,
        metavar="X",
        help=both(
            "share of the other drawn stories that keep 从前 at their beginning; default 1",
            "其他生成的故事保留开头“从前”的比例，默认 1",
        ),
    )
    parser.add_argument(
        "--repeat",
        type=whole_number(1, 10_000),
        default=1,
        metavar="N",
        help=both("times each story of the inputs is used; default 1", "每个输入故事重复的次数"),
    )
    parser.add_argument(
        "--vary",
        type=float,
        default=0.0,
        metavar="X",
        help=both(
            "share of these repetitions with other names and full-width punctuation; default 0",
            "重复时更换人物名字并改用全角标点的比例，默认 0",
        ),
    )
    parser.add_argument(
        "--full-width",
        action="store_true",
        help=both("half-width punctuation becomes full-width", "半角标点转为全角"),
    )
    parser.add_argument(
        "--min-chars",
        type=whole_number(1, 10**9),
        default=10,
        metavar="N",
        help=both("shorter stories are left out; default 10", "过短的故事不要，默认 10"),
    )
    parser.add_argument(
        "--max-chars",
        type=whole_number(1, 10**9),
        default=4000,
        metavar="N",
        help=both("longer stories are left out; default 4000", "过长的故事不要，默认 4000"),
    )
    parser.add_argument(
        "--near-duplicates",
        type=float,
        default=0.7,
        metavar="X",
        help=both(
            "similarity from which a story is a duplicate; 0 keeps all but equal ones; default 0.7",
            "相似度达到此值即视为重复；0 表示只去掉完全相同的",
        ),
    )
    parser.add_argument(
        "--valid",
        type=float,
        default=0.01,
        metavar="X",
        help=both("share of the inputs held out; default 0.01", "留作验证的比例，默认 0.01"),
    )
    add_reading(parser)
    add_seed(parser)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs the step."""
    from ...train.corpus import CorpusOptions, build_corpus

    options = CorpusOptions(
        full_width=args.full_width,
        min_chars=args.min_chars,
        max_chars=args.max_chars,
        near_duplicates=args.near_duplicates,
        valid=args.valid,
        templates=args.templates,
        opening=args.opening,
        repeat=args.repeat,
        vary=args.vary,
        **reading(args),
    )
    if args.stories is not None and not args.builtin:
        raise UsageError("--stories is how many to draw with --builtin: add that, or leave it out")
    if args.templates != "all" and not args.builtin:
        raise UsageError("--templates is of those that --builtin draws: add that, or leave it out")
    stories = (args.stories or 200_000) if args.builtin else 0
    report = build_corpus(args.inputs, args.out, builtin=stories, seed=args.seed, options=options)
    terminal.line(str(report))
