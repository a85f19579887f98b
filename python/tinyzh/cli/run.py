"""``tinyzh run``: the command line and the output of llama2.c's ``run``, byte for byte."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..formats import open_path
from ..sampling import SamplingParams
from ..special import BOS
from .arguments import UsageError, both
from .c_numbers import c_float, c_int
from .terminal import Terminal

if TYPE_CHECKING:
    from ..model import Model
    from .run_tokenizer import RunTokenizer

NAME = "run"
SUMMARY = "as llama2.c's run, byte for byte / 与 llama2.c 的 run 逐字节一致"

_DEFAULT_TOP_P = 0.9
_DEFAULT_STEPS = 256
# flag -> (metavar, help)
_FLAGS = {
    "t": ("FLOAT", both("temperature; default 1.0", "温度，默认 1.0")),
    "p": ("FLOAT", both("top-p; default 0.9; 0 or 1: off", "核采样，默认 0.9；0 或 1 为关闭")),
    "s": ("INT", both("seed; default and 0: the time", "种子；默认或 0 取当前时间")),
    "n": ("INT", both("steps, the prompt's too; default 256", "步数（含提示），默认 256")),
    "i": ("STRING", both("prompt", "故事的开头")),
    "z": (
        "FILE",
        both(
            "tokenizer.bin; default: beside the checkpoint, else in this folder",
            "分词器；默认在模型旁边或当前目录寻找",
        ),
    ),
    "m": ("MODE", both("generate, the only mode there is", "只有 generate")),
    "y": ("STRING", both("not there: there is no chat mode", "无对话模式，不支持")),
}


@dataclass(frozen=True)
class Options:
    """The command line after all of ``run``'s rules for values out of range."""

    checkpoint: Path
    temperature: float = 1.0
    top_p: float = _DEFAULT_TOP_P
    seed: int = 0  #: 0: the time
    steps: int = _DEFAULT_STEPS  #: 0: the model's context
    prompt: bytes = b""
    tokenizer: str | None = None


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments, for --help; :func:`parse` reads them."""
    parser.usage = (
        "tinyzh run CHECKPOINT [-t FLOAT] [-p FLOAT] [-s INT] [-n INT] [-i STRING] [-z FILE]"
    )
    parser.add_argument("arguments", nargs="?", help=argparse.SUPPRESS)
    for flag, (metavar, text) in _FLAGS.items():
        parser.add_argument(f"-{flag}", metavar=metavar, help=text)


def parse(arguments: Sequence[str]) -> Options:
    """Reads CHECKPOINT and then pairs of flag and value, whatever the value looks like."""
    if not arguments:
        raise UsageError("run needs a checkpoint (tinyzh run --help shows what is possible)")
    checkpoint, *rest = arguments
    given: dict[str, str] = {}
    for i in range(0, len(rest), 2):
        flag = rest[i]
        if len(flag) != 2 or flag[0] != "-" or flag[1] not in _FLAGS:
            raise UsageError(f"unknown flag {flag!r}: run has -{', -'.join(_FLAGS)}")
        if i + 1 == len(rest):
            raise UsageError(f"{flag} needs a value after it")
        given[flag[1]] = rest[i + 1]
    _refuse_chat(given)
    temperature, top_p = c_float(given.get("t", "1")), c_float(given.get("p", "0.9"))
    for name, value in ("-t", temperature), ("-p", top_p):
        if math.isnan(value):
            raise UsageError(f"{name} is not a number: what run does then is undefined")
    return Options(
        checkpoint=Path(checkpoint),
        temperature=max(temperature, 0.0),
        top_p=_top_p(top_p),
        seed=c_int(given.get("s", "0")) % 2**64,  # the sign of the int goes through all 64 bits
        steps=max(c_int(given.get("n", str(_DEFAULT_STEPS))), 0),
        prompt=os.fsencode(given.get("i", "")),
        tokenizer=given.get("z"),
    )


def _refuse_chat(given: dict[str, str]) -> None:
    mode = given.get("m", "generate")
    if mode == "chat" or (mode == "generate" and "y" in given):
        raise UsageError("there is no chat mode: these models tell stories; leave out -m and -y")
    if mode != "generate":
        raise UsageError(f"unknown mode {mode!r}: expected generate")


def _top_p(asked: float) -> float:
    """``run``'s convention in Python's: outside [0, 1] is the default, 0 and 1 are off."""
    if not 0 <= asked <= 1:
        return c_float(str(_DEFAULT_TOP_P))
    return asked or 1.0


@dataclass(frozen=True)
class _Sampling(SamplingParams):
    def __post_init__(self) -> None:
        """Nothing to check: ``run`` has limits of its own, and none for a high temperature."""


def run(options: Options, terminal: Terminal) -> None:
    """Prints the story that ``run`` prints."""
    from ..model import Model
    from .run_tokenizer import find_run_tokenizer

    found = open_path(options.checkpoint)
    tokenizer = find_run_tokenizer(options.tokenizer, options.checkpoint, found)
    context = found.config.seq_len
    steps = min(options.steps or context, context)
    ids = tokenizer.encode(options.prompt)
    with Model(found, tokenizer=tokenizer) as model:
        started = time.perf_counter()
        position = _tell(model, tokenizer, ids, options, steps, terminal)
        seconds = time.perf_counter() - started
    if position > 1:
        terminal.note(f"achieved tok/s: {(position - 1) / seconds:f}")


def _tell(
    model: Model,
    tokenizer: RunTokenizer,
    ids: list[int],
    options: Options,
    steps: int,
    terminal: Terminal,
) -> int:
    """Prints prompt and story, and returns how many positions that took."""
    forced = ids[1 : steps + 1]
    terminal.write(tokenizer.decode(forced))
    position = len(forced)
    if (left := steps - len(ids) + 1) > 0:
        params = _Sampling(
            temperature=options.temperature,
            top_p=options.top_p,
            seed=options.seed or int(time.time()) % 2**32,
            max_new_tokens=left,
        )
        story = model._submit(ids, params, False, None, (BOS,))
        after_bos = not forced
        for text in story:
            if after_bos and tokenizer.starts_with_space(story.token_ids[0]):
                text = text[1:]
            after_bos = False
            terminal.write(text)
        position += len(story.token_ids) + (story.finish_reason == "stop")
    terminal.write("\n")
    return position
