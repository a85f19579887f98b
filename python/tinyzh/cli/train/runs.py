"""What steps that train a model have in common."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from ..arguments import both
from ..terminal import Terminal

if TYPE_CHECKING:
    from ...train.loop import Result

__all__ = ["add_config", "tell_result"]


def add_config(parser: argparse.ArgumentParser, default: str) -> None:
    """--config, --set, --valid-text and --resume."""
    parser.add_argument(
        "--config",
        metavar="NAME",
        help=both(
            "93m, builtin, consistent, laptop, repertoire or a .toml file; "
            f"default {default}, or the run's",
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


def tell_result(result: Result, terminal: Terminal) -> None:
    """What came out; an interrupted run ends like an interrupted command."""
    if os.environ.get("RANK", "0") != "0":  # one of torchrun's processes, but not the first
        return
    losses = ", ".join(f"{k.replace('_', ' ')} {v:.4f}" for k, v in result.losses.items())
    terminal.line(
        f"{result.out}: {result.step:,} steps, {result.tokens:,} tokens, "
        f"{result.trained / 60:.1f} minutes" + (f"; {losses}" if losses else "")
    )
    if not result.finished:
        terminal.note("tinyzh: interrupted and saved; --resume goes on")
        raise KeyboardInterrupt(result.signal)
    if result.idle:
        terminal.note(
            "tinyzh: note: nothing was left to do, since the budget was used up before; a larger "
            "one goes on: --set minutes=… or --set steps=…"
        )
