"""``tinyzh score``: how probable a text is to the model."""

from __future__ import annotations

import argparse
import json
from typing import Any

from .arguments import add_model_arguments, both, open_model, read_text
from .pieces import visible
from .terminal import Terminal

NAME = "score"
SUMMARY = "how likely a text is to the model / 模型认为一段文字有多可能"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "text",
        nargs="?",
        metavar="TEXT",
        help=both('"-" or none with input piped in: standard input', "- 表示读标准输入"),
    )
    parser.add_argument(
        "--per-token",
        action="store_true",
        help=both("each token's log-probability first", "先列出每个词元的对数概率"),
    )
    parser.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))
    add_model_arguments(parser)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Prints log-probability, perplexity and bits per character."""
    text = read_text(args.text, "text")
    with open_model(args) as model:
        score = model.score(text)
        pieces = model.tokenizer.vocabulary.pieces()
    tokens = [
        {"id": i, "piece": visible(*pieces[i], i), "logprob": logprob}
        for i, logprob in zip(score.token_ids, score.logprobs, strict=True)
    ]
    if args.json:
        record: dict[str, Any] = {
            "characters": len(text),
            "tokens": len(tokens),
            "logprob": score.total,
            "perplexity": score.perplexity,
            "bits_per_character": score.bits_per_character,
        }
        if args.per_token:
            record["per_token"] = tokens
        terminal.line(json.dumps(record, ensure_ascii=False))
        return
    if args.per_token:
        for token in tokens:
            terminal.line(f"{token['logprob']:9.4f}  {token['id']:>6}  {token['piece']}")
    terminal.line(f"characters          {len(text)}")
    terminal.line(f"tokens              {len(tokens)}")
    terminal.line(f"log-probability     {score.total:.4f}")
    terminal.line(f"perplexity          {score.perplexity:.4f}")
    terminal.line(f"bits per character  {score.bits_per_character:.4f}")
