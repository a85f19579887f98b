"""``tinyzh train``: from texts to a model that tells stories, one subcommand a step."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TokenizerError
from .arguments import Parser, UsageError, both, for_command_line, whole_number
from .terminal import Terminal

if TYPE_CHECKING:
    from ..train.loop import Result

NAME = "train"
SUMMARY = "make a model of your own stories / 用自己的故事训练模型"

_Run = Callable[[argparse.Namespace, Terminal], None]


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommands."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", parser_class=Parser)
    for name, summary, arguments, run in _STEPS:
        step = steps.add_parser(name, help=summary, description=summary)
        arguments(step)
        step.set_defaults(train_step=run)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Runs one step."""
    if args.step is None:
        names = ", ".join(name for name, *_ in _STEPS)
        raise UsageError(f"no step given: {names} (tinyzh train --help tells more)")
    from ..train.extra import missing_named

    with missing_named():
        args.train_step(args, terminal)


def _add_out(parser: argparse.ArgumentParser, english: str, chinese: str) -> None:
    parser.add_argument(
        "--out", required=True, type=Path, metavar="PATH", help=both(english, chinese)
    )


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**31 - 1),
        default=1,
        help=both("of everything random; default 1", "随机种子，默认 1"),
    )


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """How files of stories are read."""
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


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    fields = {"fields": tuple(args.field)} if args.field else {}
    return {"layout": args.layout, "encoding": args.encoding, **fields}


# ---- corpus -----------------------------------------------------------------------------------


def _corpus_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help=both(
            "files (.txt, .json, .jsonl, also .gz), folders or globs", "文件、文件夹或通配符"
        ),
    )
    _add_out(parser, "folder of the corpus", "语料文件夹")
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
    _add_reading(parser)
    _add_seed(parser)


def _corpus(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..train.corpus import CorpusOptions, build_corpus

    options = CorpusOptions(
        full_width=args.full_width,
        min_chars=args.min_chars,
        max_chars=args.max_chars,
        near_duplicates=args.near_duplicates,
        valid=args.valid,
        repeat=args.repeat,
        vary=args.vary,
        **_reading(args),
    )
    if args.stories is not None and not args.builtin:
        raise UsageError("--stories is how many to draw with --builtin: add that, or leave it out")
    stories = (args.stories or 200_000) if args.builtin else 0
    report = build_corpus(args.inputs, args.out, builtin=stories, seed=args.seed, options=options)
    terminal.line(str(report))


# ---- tokenizer --------------------------------------------------------------------------------


def _tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS", help=both("its folder", "语料文件夹")
    )
    _add_out(parser, "folder of the tokenizer", "分词器文件夹")
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
    _add_seed(parser)


def _tokenizer(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..train.tokenizer import train_tokenizer

    report = train_tokenizer(
        args.corpus, args.out, vocab_size=args.vocab_size, sample=args.sample, seed=args.seed
    )
    terminal.line(str(report))


# ---- prepare ----------------------------------------------------------------------------------


def _add_tokenizer(
    parser: argparse.ArgumentParser, required: bool, english: str, chinese: str
) -> None:
    parser.add_argument(
        "--tokenizer", required=required, type=Path, metavar="PATH", help=both(english, chinese)
    )


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS", help=both("its folder", "语料文件夹")
    )
    _add_tokenizer(parser, True, "its folder or file", "分词器文件夹或文件")
    _add_out(parser, "folder of the tokens", "词元文件夹")
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


def _prepare(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..train.shards import prepare
    from ..train.tokenizer_files import find_trained

    tokenizer = find_trained(args.tokenizer)
    report = prepare(
        args.corpus, tokenizer, args.out, processes=args.processes, rebuild=args.rebuild
    )
    terminal.line(str(report))


# ---- model ------------------------------------------------------------------------------------


def _add_config(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--config",
        metavar="NAME",
        help=both(
            f"93m, builtin, laptop or a .toml file; default {default}, or that of the run",
            f"配置名或 .toml 文件，默认 {default} 或已有训练的配置",
        ),
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=both("change a key of the configuration; may be repeated", "修改配置项，可多次使用"),
    )
    parser.add_argument(
        "--valid-text",
        action="append",
        default=[],
        metavar="FILE",
        help=both(
            "held-out stories, measured in bits a character; may be repeated",
            "验证用的故事，以每字比特数衡量",
        ),
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help=both("go on with what is in --out", "从 --out 中的进度继续"),
    )


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=Path, metavar="DATA", help=both("folder of the tokens", "词元文件夹")
    )
    _add_tokenizer(parser, False, "its folder or file; none: DATA's", "分词器；省略则用 DATA 中的")
    _add_out(parser, "folder of the run", "训练结果文件夹")
    _add_config(parser, "laptop")


def _model(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..train.pipeline import train_model

    result = train_model(
        args.data,
        args.out,
        config=args.config,
        settings=args.set,
        tokenizer=args.tokenizer,
        valid_texts=args.valid_text,
        resume=args.resume,
    )
    _tell_result(result, args.out, terminal)


def _tell_result(result: Result, out: Path, terminal: Terminal) -> None:
    """What came out; an interrupted run ends like an interrupted command."""
    if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes, but not the first
        return
    losses = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in result.losses.items())
    terminal.line(
        f"{out}: {result.step:,} steps, {result.tokens:,} tokens, "
        f"{result.trained / 60:.1f} minutes" + (f"; {losses}" if losses else "")
    )
    if not result.finished:
        terminal.note("tinyzh: interrupted and saved; --resume goes on")
        raise KeyboardInterrupt(result.signal)
    if result.step == result.began:
        terminal.note(
            "tinyzh: note: nothing was left to do, since the budget was used up before; a larger "
            "one goes on: --set minutes=… or --set steps=…"
        )


# ---- export -----------------------------------------------------------------------------------


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="RUN", help=both("folder of the run", "训练结果文件夹")
    )
    _add_out(parser, "the file, or the folder for hf", "输出文件；hf 为文件夹")
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
    _add_tokenizer(
        parser, False, "its folder or file; none: RUN's", "分词器文件夹或文件；省略则用 RUN 中的"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="CORPUS",
        help=both("for the model card", "写入模型说明的语料"),
    )
    parser.add_argument(
        "--licence", default="MIT", help=both("of the model; default MIT", "模型的许可证，默认 MIT")
    )


def _export(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..train.export import export

    for path in export(
        args.source,
        args.out,
        args.format,
        group_size=args.group_size,
        tokenizer=args.tokenizer,
        corpus=args.corpus,
        licence=args.licence,
    ):
        terminal.line(str(path))


# ---- evaluate ---------------------------------------------------------------------------------


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
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
    _add_reading(parser)
    _add_tokenizer(
        parser, False, "its file or folder; none: beside MODEL", "分词器；省略则在模型旁边寻找"
    )
    parser.add_argument(
        "--dtype", default="auto", help=both("auto, float32, int8 or int4", "计算精度")
    )
    parser.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))


def _evaluate(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..train.evaluate import evaluate

    def progress(number: int, total: int) -> None:
        terminal.progress(f"story {number:,} of {total:,}")

    try:
        measured = evaluate(
            args.model,
            args.texts,
            tokenizer=args.tokenizer,
            dtype=args.dtype,
            progress=progress,
            **_reading(args),
        )
    except TokenizerError as error:
        raise TokenizerError(for_command_line(str(error))) from None
    terminal.progress("")
    if args.json:
        terminal.line(json.dumps(measured.as_dict(), ensure_ascii=False))
        return
    terminal.line(str(measured))


# ---- builtin ----------------------------------------------------------------------------------


def _builtin_arguments(parser: argparse.ArgumentParser) -> None:
    _add_out(parser, "folder for everything", "所有结果的文件夹")
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
        help=both("of training; none: what the configuration says", "训练分钟数"),
    )
    _add_config(parser, "builtin")
    _add_seed(parser)


def _builtin(args: argparse.Namespace, terminal: Terminal) -> None:
    from ..train.pipeline import train_builtin

    settings = list(args.set)
    if args.minutes is not None:
        settings.append(f"minutes={args.minutes}")
    asked = {"stories": args.stories, "repeat": args.repeat}
    result = train_builtin(
        args.out,
        config=args.config,
        settings=settings,
        real=args.real,
        valid_texts=args.valid_text,
        seed=args.seed,
        resume=args.resume,
        report=terminal.line,
        **{name: value for name, value in asked.items() if value is not None},
    )
    _tell_result(result, args.out, terminal)


_Arguments = Callable[[argparse.ArgumentParser], None]

_STEPS: tuple[tuple[str, str, _Arguments, _Run], ...] = (
    ("corpus", both("clean and split texts", "清洗并划分语料"), _corpus_arguments, _corpus),
    ("tokenizer", both("train a tokenizer", "训练分词器"), _tokenizer_arguments, _tokenizer),
    ("prepare", both("turn a corpus into tokens", "把语料转成词元"), _prepare_arguments, _prepare),
    ("model", both("train a model", "训练模型"), _model_arguments, _model),
    ("export", both("write files to run", "导出模型"), _export_arguments, _export),
    ("evaluate", both("measure a model on texts", "评估模型"), _evaluate_arguments, _evaluate),
    ("builtin", both("all of it for the built-in model", "内置模型"), _builtin_arguments, _builtin),
)
