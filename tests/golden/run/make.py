"""What llama2.c's ``run`` prints for stories260K (MIT licence), so that ``tinyzh run`` can be
compared with it where llama2.c is not.

    python tests/golden/run/make.py RUN FAST MODEL TOKENIZER

RUN is run.c of https://github.com/karpathy/llama2.c (May 2024, sha256 9c4f2d5c6ae01b71...), built
with ``gcc -O3 -o run run.c -lm``; FAST the same with ``-Ofast -march=native``.  A case is kept only
when both print the same: where they differ, rounding decides, and no answer is the right one.
MODEL is stories260K.bin, TOKENIZER tok512.bin.

``dropped`` are characters of a prompt that this vocabulary writes in byte tokens: run reads them,
but does not print them, and tinyzh does both.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("stories260K.json")

PLAIN = ["", "Once upon a time", "  two  spaces ", 'The dog said, "Hello!"', "a\tb\nc", "<s>"]
CASES: list[list[str]] = [
    # prompts, seeds, temperatures and top-p of every kind
    *(
        ["-i", prompt, "-s", seed, "-t", temperature, "-p", top_p, "-n", "96"]
        for prompt, (seed, temperature, top_p) in itertools.product(
            PLAIN, [("1", "0", "0.9"), ("42", "0.5", "0.5"), ("7", "1.0", "0.9"), ("9", "1.3", "0")]
        )
    ),
    # values out of range, and what C makes of words that are no numbers
    *(
        ["-i", "Lily", "-n", "40", *flags]
        for flags in (
            ["-s", "-7"],
            ["-s", "4294967295"],
            ["-s", "12345678901234567890"],
            ["-s", "2147483648"],
            ["-s", " 12x"],
            ["-s", "5", "-t", "-1"],
            ["-s", "5", "-t", "warm"],
            ["-s", "5", "-p", "1.5"],
            ["-s", "5", "-p", "-0.5"],
            ["-s", "5", "-p", "1"],
            ["-s", "5", "-p", "0x1p-1"],
            ["-s", "5", "-t", "1e-60"],
        )
    ),
    # steps: fewer than the prompt has, as many, one more, all
    *(
        ["-i", "Once upon a time there was a dog", "-s", "3", "-n", steps]
        for steps in ("1", "4", "11", "12", "13", "-5", "0", "9999", "many")
    ),
    # the end: a sampled BOS
    *(["-s", seed] for seed in ("11", "12", "13")),
]
DROPPED = {"One day, 小明 went": "小明", "🐰 hi": "🐰", "从前，有一只小兔子": "从前，有一只小兔子"}
CASES += [["-i", prompt, "-s", "8", "-n", "60"] for prompt in DROPPED]


def printed(program: str, model: str, tokenizer: str, flags: list[str]) -> str:
    """Standard output of the reference program."""
    command = [program, model, "-z", tokenizer, *flags]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def main(run: str, fast: str, model: str, tokenizer: str) -> None:
    cases = []
    for flags in CASES:
        output = printed(run, model, tokenizer, flags)
        if output != printed(fast, model, tokenizer, flags):
            print("rounding decides, left out:", flags)
            continue
        dropped = DROPPED.get(flags[1], "")
        cases.append({"flags": flags, "output": output, "dropped": dropped})
    sha256 = hashlib.sha256(Path(model).read_bytes()).hexdigest()
    text = json.dumps({"sha256": sha256, "cases": cases}, ensure_ascii=False, indent=1)
    TARGET.write_text(text + "\n", encoding="utf-8")
    print(len(cases), "cases in", TARGET)


if __name__ == "__main__":
    main(*sys.argv[1:])
