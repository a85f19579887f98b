"""``tinyzh tokenize``: a text's tokens, and back."""

from __future__ import annotations

import argparse
import json
import re

from ..builtin import TOKENIZER
from ..errors import TokenizerError
from ..formats import open_path
from ..tokenizer import Tokenizer, open_tokenizer
from .arguments import UsageError, add_model_arguments, both, for_command_line, read_text
from .pieces import visible
from .terminal import Terminal

NAME = "tokenize"
SUMMARY = "show a text's tokens / 查看文字的词元"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "text",
        nargs="*",
        metavar="TEXT",
        help=both('"-" or none with input piped in: standard input', "- 表示读标准输入"),
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--ids", action="store_true", help=both("only the ids", "只列编号"))
    form.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))
    form.add_argument(
        "--decode", action="store_true", help=both("ids in, text out", "由编号还原文字")
    )
    add_model_arguments(parser, compute=False)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Prints the tokens that the model reads, BOS first."""
    text = read_text(" ".join(args.text) if args.text else None, "text")
    tokenizer = _open(args.model, args.tokenizer)
    if args.decode:
        terminal.line(tokenizer.decode(_numbers(text)))
        return
    ids = tokenizer.encode(text)
    if args.ids:
        terminal.line(" ".join(map(str, ids)))
        return
    kinds = tokenizer.vocabulary.pieces()
    pieces = [visible(*kinds[i], i) for i in ids]
    if args.json:
        terminal.line(json.dumps({"ids": ids, "pieces": pieces}, ensure_ascii=False))
        return
    for i, piece in zip(ids, pieces, strict=True):
        terminal.line(f"{i:>6}  {piece}")


def _open(model: str | None, tokenizer: str | None) -> Tokenizer:
    if model is None and tokenizer is not None:
        return open_tokenizer(tokenizer)
    if model is None:
        return open_tokenizer(TOKENIZER)
    found = open_path(model)
    if tokenizer is not None:
        return open_tokenizer(tokenizer, found.config.vocab_size)
    try:
        return found.tokenizer()
    except TokenizerError as error:
        raise TokenizerError(for_command_line(str(error))) from None


def _numbers(text: str) -> list[int]:
    """Ids separated by spaces or commas, perhaps in brackets."""
    words = re.split(r"[\s,]+", text.strip().removeprefix("[").removesuffix("]").strip())
    try:
        return [int(word) for word in words if word]
    except ValueError:
        raise UsageError(f"--decode takes token ids like 1 259 300, not {text[:40]!r}") from None
