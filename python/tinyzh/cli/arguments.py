"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import InvalidArgument, TokenizerError

if TYPE_CHECKING:
    from ..model import Model

__all__ = [
    "Parser",
    "UsageError",
    "add_model_arguments",
    "both",
    "for_command_line",
    "open_model",
    "read_text",
    "whole_number",
]


class UsageError(Exception):
    """The command line is wrong."""


class Formatter(argparse.HelpFormatter):
    """Wraps by the columns that characters take: a Chinese one takes two."""

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        super().add_usage(usage, actions, groups, prefix or "usage / 用法: ")

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrap(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in wrap(text, width))


def columns(text: str) -> int:
    """How wide a text is on a terminal."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


# A Chinese character or a word, with the punctuation and the spaces that stay behind it.
_ATOM = re.compile(r"(?:[\u2e80-\uffef]|[^\s\u2e80-\uffef]+)[，。；：、）！？]*\s*")


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, broken at spaces and between Chinese characters."""
    lines = [""]
    for atom in _ATOM.findall(text):
        if lines[-1] and columns(lines[-1] + atom.rstrip()) > width:
            lines.append("")
        lines[-1] += atom
    return [line.rstrip() for line in lines]


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line as one line."""

    def __init__(self, *, add_help: bool = True, **options: Any) -> None:
        options.setdefault("formatter_class", Formatter)
        super().__init__(allow_abbrev=False, add_help=False, **options)
        self._positionals.title = "arguments / 参数"
        self._optionals.title = "options / 选项"
        if add_help:
            self.add_argument("-h", "--help", action="help", help=both("this help", "显示帮助"))

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help shows what is possible)")


def both(english: str, chinese: str) -> str:
    """A help text in both languages."""
    return f"{english} / {chinese}".replace("%", "%%")


def whole_number(low: int, high: int = 2**64 - 1) -> Callable[[str], int]:
    """A type for argparse: an integer from ``low`` to ``high``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r} given: expected an integer from {low} to {high}"
            )
        return number

    return parse


def add_model_arguments(parser: argparse.ArgumentParser, *, compute: bool = True) -> None:
    """-m, --tokenizer and, where something is computed, --dtype and --threads."""
    group = parser.add_argument_group("model / 模型")
    group.add_argument(
        "-m",
        "--model",
        metavar="FILE",
        help=both(
            "a checkpoint, GGUF file or Hugging Face folder; none: the built-in model",
            "模型文件或 Hugging Face 文件夹；省略则用内置模型",
        ),
    )
    group.add_argument(
        "--tokenizer",
        metavar="FILE",
        help=both(
            "tokenizer.model or tokenizer.bin; none: found beside the model",
            "分词器文件；省略则在模型旁边寻找",
        ),
    )
    if not compute:
        return
    group.add_argument(
        "--dtype",
        default="auto",
        help=both(
            "float32, int8 or int4; auto (default) keeps the file's own precision",
            "计算精度；auto（默认）与文件一致",
        ),
    )
    group.add_argument(
        "--kv-dtype",
        default="auto",
        help=both(
            "of keys and values: float32, float16 or int8; auto (default): as the weights need it",
            "键值缓存的精度：float32、float16 或 int8；auto（默认）随权重而定",
        ),
    )
    group.add_argument(
        "--threads",
        type=whole_number(1, 256),
        metavar="N",
        help=both(
            "threads; none: TINYZH_THREADS, else the physical cores",
            "线程数；省略则取 TINYZH_THREADS 或物理核数",
        ),
    )


def open_model(args: argparse.Namespace) -> Model:
    """The model that the arguments name."""
    from ..model import Model

    try:
        return Model(
            args.model,
            tokenizer=args.tokenizer,
            dtype=args.dtype,
            kv_dtype=args.kv_dtype,
            threads=args.threads,
        )
    except TokenizerError as error:
        raise TokenizerError(for_command_line(str(error))) from None


def for_command_line(message: str) -> str:
    """A message with its remedy in the words of the command line."""
    return message.replace("pass tokenizer=", "name it with --tokenizer").replace(
        "force=True", "--force"
    )


def read_text(argument: str | None, what: str) -> str:
    """The text of an argument: "-", or none at all where input is piped in, is standard input."""
    if argument is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(f'no {what}: give it in quotes, or "-" to read standard input')
        argument = "-"
    if argument != "-":
        return _decode_argument(argument, what)
    if sys.stdin is None:
        raise UsageError(f"the {what} is to come from standard input, which is closed")
    text = _decode(sys.stdin.buffer.read(), f"the {what} on standard input")
    return text.removeprefix("\ufeff").removesuffix("\n").removesuffix("\r")


def _decode_argument(argument: str, what: str) -> str:
    # Bytes that the locale cannot read arrive as lone surrogates: look at the bytes again.
    if not any("\ud800" <= c <= "\udfff" for c in argument):
        return argument
    try:
        data = os.fsencode(argument)
    except UnicodeEncodeError:
        raise InvalidArgument(f"the {what} holds half a character (a lone surrogate)") from None
    return _decode(data, f"the {what}")


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(
            f"{what} is not UTF-8: byte {error.start} is 0x{data[error.start]:02X}; "
            "convert it, for example with `iconv -f GB18030 -t UTF-8`"
        ) from None
