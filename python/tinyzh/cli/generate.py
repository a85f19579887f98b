"""``tinyzh generate``: tells stories."""

from __future__ import annotations

import argparse
import json
import secrets
from typing import TYPE_CHECKING, Any

from .arguments import (
    add_model_arguments,
    both,
    open_model,
    read_text,
    whole_number,
)
from .terminal import Terminal

if TYPE_CHECKING:
    from ..generation import Generation
    from ..model import Model

NAME = "generate"
SUMMARY = "tell a story / 讲一个故事"

# flag -> (type, help): each is the sampling parameter of that name
_SAMPLING: dict[str, tuple[type, str]] = {
    "temperature": (float, both("0 always tells the likeliest; default 0.9", "温度，默认 0.9")),
    "top-p": (float, both("keep the likeliest up to this sum; default 0.9", "核采样，默认 0.9")),
    "top-k": (int, both("keep the k likeliest tokens; 0: all", "只留最可能的 k 个词元")),
    "min-p": (float, both("keep what is this likely beside the best", "相对概率下限")),
    "repetition-penalty": (float, both("above 1: fewer repetitions", "大于 1 减少重复")),
    "presence-penalty": (float, both("against words already told", "已出现的词减分一次")),
    "frequency-penalty": (float, both("the same, for each time", "按出现次数减分")),
    "max-new-tokens": (int, both("length at most; none: the context", "最多生成的词元数")),
    "min-new-tokens": (int, both("length at least", "最少生成的词元数")),
}


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "prompt",
        nargs="?",
        default="",
        metavar="PROMPT",
        help=both('how it begins; "-" reads standard input', "故事的开头；- 表示读标准输入"),
    )
    story = parser.add_argument_group("story / 故事")
    story.add_argument(
        "--seed",
        type=whole_number(0),
        metavar="N",
        help=both("the same seed tells the same story", "相同的种子讲相同的故事"),
    )
    story.add_argument(
        "--stories",
        type=whole_number(1, 10**6),
        default=1,
        metavar="N",
        help=both("so many, with seed, seed + 1, …", "讲 N 个故事，种子依次加一"),
    )
    story.add_argument(
        "--stop",
        action="append",
        metavar="S",
        help=both("end before this text; may be repeated", "遇到这段文字即停止；可多次使用"),
    )
    story.add_argument(
        "--bad-word",
        action="append",
        metavar="W",
        help=both("never tell this; may be repeated", "绝不出现的词；可多次使用"),
    )
    story.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help=both("end each story after so long", "每个故事的时限（秒）"),
    )
    sampling = parser.add_argument_group("sampling / 采样")
    for flag, (kind, text) in _SAMPLING.items():
        sampling.add_argument(
            f"--{flag}", type=kind, metavar="N" if kind is int else "X", help=text
        )
    output = parser.add_argument_group("output / 输出")
    output.add_argument(
        "--no-echo", action="store_true", help=both("without the prompt", "不重复开头")
    )
    output.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help=both("the prompt stands out; auto: on a terminal", "突出显示开头"),
    )
    output.add_argument(
        "--json",
        action="store_true",
        help=both("one JSON object a story and line", "每个故事一行 JSON"),
    )
    output.add_argument(
        "--stats",
        action="store_true",
        help=both("speed, seed and hash on standard error", "在标准错误显示速度与种子"),
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Tells the stories one after another."""
    from ..sampling import SamplingParams

    terminal.choose_color(args.color)
    prompt = read_text(args.prompt, "prompt")
    # A seed drawn here is short: easier to type again than one of 64 bits.
    seed = args.seed if args.seed is not None else 1 + secrets.randbelow(2**32 - 1)
    names = [flag.replace("-", "_") for flag in _SAMPLING]
    given = {name: getattr(args, name) for name in names}
    given |= {"seed": seed, "stop": args.stop, "bad_words": args.bad_word}
    SamplingParams().but(**given)  # so that a mistake is told before a model is read
    with open_model(args) as model:
        params = model.defaults.but(**given)
        for i in range(args.stories):
            story = params.plus_seed(i)
            if args.stories > 1 and not args.json:
                _headline(terminal, i, args.stories, story.seed)
            if not args.json and not args.no_echo:
                terminal.write(prompt, "bold")
            generation = model.generate(prompt, params=story, timeout=args.timeout)
            if args.json:
                text = generation.read()
                terminal.line(
                    json.dumps(_record(model, generation, prompt, text), ensure_ascii=False)
                )
            else:
                for piece in generation:
                    terminal.write(piece)
                terminal.line()
            if args.stats:
                terminal.note(_stats_line(model, generation))


def _headline(terminal: Terminal, i: int, stories: int, seed: int | None) -> None:
    if i:
        terminal.line()
    terminal.line(f"── {i + 1}/{stories} · seed {seed} ──", "dim")


def _gigabytes_per_second(model: Model, tokens_per_second: float | None) -> float | None:
    if tokens_per_second is None:
        return None
    return model.memory()["read_per_token"] * tokens_per_second / 1e9


def _record(model: Model, generation: Generation, prompt: str, text: str) -> dict[str, Any]:
    stats = generation.stats
    return {
        "prompt": prompt,
        "text": text,
        "token_ids": generation.token_ids,
        "seed": generation.seed,
        "finish_reason": generation.finish_reason,
        "stats": {
            "prompt_tokens": stats.prompt_tokens,
            "new_tokens": stats.new_tokens,
            "time_to_first_token": stats.time_to_first_token,
            "seconds": stats.seconds,
            "tokens_per_second": stats.tokens_per_second,
            "gigabytes_per_second": _gigabytes_per_second(model, stats.tokens_per_second),
            "logits_hash": f"{stats.logits_hash:016x}",
        },
    }


def _stats_line(model: Model, generation: Generation) -> str:
    stats = generation.stats
    parts = [f"{stats.new_tokens} tokens"]
    if stats.tokens_per_second is not None:
        speed = _gigabytes_per_second(model, stats.tokens_per_second)
        parts += [f"{stats.tokens_per_second:.1f} tokens/s", f"{speed:.1f} GB/s"]
    if stats.time_to_first_token is not None:
        parts.append(f"first token after {stats.time_to_first_token * 1000:.1f} ms")
    parts += [f"seed {generation.seed}", f"logits {stats.logits_hash:016x}"]
    parts.append(f"ended by {generation.finish_reason}")
    return " · ".join(parts)
