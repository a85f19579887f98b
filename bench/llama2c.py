"""llama2.c's ``run`` and tinyzh side by side on the 93M shape: alternating, medians.

    python -m bench.llama2c PATH/TO/run [--threads 1 2] [--rounds 7]

Build it as its author does: ``gcc -Ofast -fopenmp -march=native run.c -lm -o run``.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tinyzh

from .shapes import STORY_93M, random_checkpoint, tokenizer_bin

TOKENS = 128


def theirs(program: Path, model: Path, tokenizer: Path, threads: int) -> float:
    """Tokens a second, as the program itself says."""
    command = [program, model, "-z", tokenizer, "-t", "1.0", "-s", "1", "-n", str(TOKENS)]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run([str(c) for c in command], env=env, capture_output=True, check=True)
    found = re.search(rb"achieved tok/s: ([0-9.]+)", done.stderr)
    if not found:
        raise SystemExit(f"no 'achieved tok/s' from {program}: {done.stderr!r:.200}")
    return float(found[1])


def ours(model: tinyzh.Model) -> float:
    """Tokens a second after the first, which is how the other program counts."""
    story = model.generate(
        [1], temperature=1.0, seed=1, max_new_tokens=TOKENS, min_new_tokens=TOKENS
    )
    story.wait()
    return story.stats.tokens_per_second or 0.0


def ours_prefill(model: tinyzh.Model, first: int) -> float:
    """Of a prompt that was not computed before: the engine would know it."""
    story = model.generate([first, *range(2, 256)], max_new_tokens=1, seed=1)
    story.wait()
    assert model.stats().reused_tokens == 0
    return 255 / (story.stats.time_to_first_token or 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    path = random_checkpoint(STORY_93M)
    size = path.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = tokenizer_bin(STORY_93M.vocab_size, Path(folder) / "tokenizer.bin")
        for threads in args.threads:
            with tinyzh.Model(path, tokenizer=False, threads=threads) as model:
                ours(model)  # warm: both programs then find the file in memory
                rows = []
                for round_ in range(args.rounds):
                    rows.append(
                        (
                            theirs(args.run, path, tokenizer, threads),
                            ours(model),
                            ours_prefill(model, 1000 + round_),
                        )
                    )
                    print(
                        f"  round {round_ + 1}: run {rows[-1][0]:.1f}, tinyzh {rows[-1][1]:.1f}",
                        file=sys.stderr,
                    )
            run, decode, prefill = (statistics.median(column) for column in zip(*rows, strict=True))
            ratio = statistics.median(b / a for a, b, _ in rows)
            print(
                f"fp32, {threads} thread(s): run {run:.1f} tok/s, tinyzh {decode:.1f} tok/s "
                f"({decode * size * 1e-9:.1f} GB/s), ratio {ratio:.3f}; "
                f"prefill of 255: {prefill:.0f} tok/s, {prefill / decode:.1f} times one by one"
            )


if __name__ == "__main__":
    main()
