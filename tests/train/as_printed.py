"""The ten commands of docs/training.md as a learner with little text types them.

Each is a process of its own, on 300 short stories, and nothing is changed but the budget, which is
seconds. No test, since PyTorch compiles, which takes minutes: CI calls it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path

from documented import commands
from tinyzh.train.stories import FOLDER, stories

MINUTES = ("0.1", "0.2")  # of the two calls of `train model`


def beginnings(count: int) -> list[str]:
    """Of the project's stories: two sentences each."""
    told = (text.replace("\n", "") for text in stories(FOLDER, count, seed=1))
    return ["".join(islice(re.findall("[^。！？]+[。！？]”?", text), 2)) for text in told]


def main() -> None:
    texts = beginnings(320)
    minutes = iter(MINUTES)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "stories").mkdir()
        (Path(folder) / "stories" / "a.txt").write_text("\n".join(texts[:300]), encoding="utf-8")
        (Path(folder) / "kept_back.txt").write_text("\n".join(texts[300:]), encoding="utf-8")
        for command in commands():
            if command[:2] == ["train", "model"]:
                command = [word for word in command if not word.startswith("minutes=")]
                command = [word for word in command if word != "--set"]
                command += ["--set", f"minutes={next(minutes)}"]
            print("tinyzh", *command, flush=True)
            program = [sys.executable, "-m", "tinyzh", *command]
            ended = subprocess.run(program, cwd=folder, capture_output=True, text=True)
            if ended.returncode:
                sys.exit(f"failed: {ended.stderr}")
            if command[:2] == ["train", "model"] and ", compiled; " not in ended.stderr:
                sys.exit(f"not compiled: {ended.stderr}")
            if command[0] == "generate" and not ended.stdout.startswith("从前"):
                sys.exit(f"no story: {ended.stdout}")


if __name__ == "__main__":
    main()
