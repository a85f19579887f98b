"""lines.py FILE...: what the characters of the game server said to each seed, as Python tells it.

Also that the files, of other thread counts and ways to drive the engine, have lines in common.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tinyzh


def read(path: str) -> dict[int, str]:
    said = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        seed, _, text = line.partition(" ")
        said[int(seed)] = text
    return said


def main() -> None:
    files = [read(path) for path in sys.argv[1:]]
    common = set.intersection(*(set(said) for said in files))
    assert len(common) > 5, f"only {len(common)} lines in common"
    told = {seed: text for said in files for seed, text in said.items()}
    settings = {"max_new_tokens": 40, "stop": ["。"], "temperature": 0.9, "top_p": 0.9}
    with tinyzh.Model(dtype="int8") as model:
        stories = {seed: model.generate("有一天，", seed=seed, **settings) for seed in told}
        expected = {seed: story.read() for seed, story in stories.items()}
    for said in files:
        for seed, text in said.items():
            assert text == expected[seed], (seed, text, expected[seed])
    print(f"game server: {len(told)} lines, {len(common)} of them in every file")


main()
