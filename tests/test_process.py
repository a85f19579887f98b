"""The process around a model: what it imports, forks, signals, and its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tinyzh
from tinyzh import Model


def python(code: str, *args: object, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """``timeout`` is for what hangs: a machine may well stand still for some seconds."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


# ---- imports ------------------------------------------------------------------------------------

FIRST_TOKEN = """
import tinyzh, sys
model = tinyzh.Model()
print(next(model.generate("从前")))
heavy = {"numpy", "sentencepiece", "asyncio", "torch", "argparse", "logging", "socket"}
print(sorted(heavy & set(sys.modules)))
"""


def test_the_first_token_needs_nothing_heavy() -> None:
    run = python(FIRST_TOKEN)
    assert run.returncode == 0, run.stderr
    piece, heavy = run.stdout.rstrip("\n").rsplit("\n", 1)
    assert piece
    assert heavy == "[]", "imported at start though nothing needed it yet"
    assert run.stderr == ""


# ---- the end ------------------------------------------------------------------------------------

ENDS = {
    "falls off the end": "",
    "sys.exit": "sys.exit(0)",
    "in a with block": "model.__enter__(); sys.exit(0)",
    "with daemon threads inside the core": """
import contextlib, threading
def score():
    with contextlib.suppress(tinyzh.GenerationError):
        while True:
            model.logits([1] * 1000)
for work in [story.read, *(other.read for other in more), score, score, score]:
    threading.Thread(target=work, daemon=True).start()
""",
    "in a task that is under way": """
import asyncio
async def main():
    task = asyncio.create_task(story.aread())
    await asyncio.sleep(0.05)
asyncio.run(main())
""",
    "the model dropped first": "del model",
    "in a cycle": "story.me = story; model.me = model; del model, story",
}


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_ends_quickly_while_a_story_runs(slow_path: Path, how: str) -> None:
    code = f"""
import signal, sys, time, tinyzh
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
model = tinyzh.Model(sys.argv[1])
story = model.generate("从前", min_new_tokens=10**6)
more = [model.generate("从前", min_new_tokens=10**6) for _ in range(20)]
next(story)
{ENDS[how]}
"""
    start = time.monotonic()
    run = python(code, slow_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert time.monotonic() - start < 3, "21 stories take more than a minute"


# ---- Ctrl-C -------------------------------------------------------------------------------------

INTERRUPTED = """
import signal, sys, time, tinyzh
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
model = tinyzh.Model(sys.argv[1], queue_limit=100)
stories = [model.generate("从前", min_new_tokens=10**6) for _ in range(20)]
print("ready", flush=True)
try:
    {blocking}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    [story.cancel() for story in stories]
    after = model.generate("从前", max_new_tokens=1)
    after.wait()
    print(after.finish_reason, flush=True)
"""


@pytest.mark.parametrize(
    "blocking",
    [
        "stories[-1].read()",
        "list(stories[-1])",
        "stories[-1].wait()",
        "model.generate_many(['a'], min_new_tokens=10**6)",
    ],
)
def test_control_c_ends_a_wait(slow_path: Path, blocking: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED.format(blocking=blocking), str(slow_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.15)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert time.monotonic() - start < 0.5
        assert process.stdout.readline() == "length\n"
        assert process.wait(5) == 0


# ---- fork ---------------------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

FORKED = """
import faulthandler, gc, os, sys, tinyzh, warnings
warnings.simplefilter("ignore")
model = tinyzh.Model(sys.argv[1])
story = model.generate("从前", min_new_tokens=10**6, seed=1)
waiting = model.generate("从前", min_new_tokens=10**6, seed=1)
next(story)
child = os.fork()
if child == 0:
    faulthandler.dump_traceback_later(60, exit=True)    # what hangs says where
    uses = {
        "generate": lambda: model.generate("从前"),
        "generate_many": lambda: model.generate_many(["从前"]),
        "score": lambda: model.score("从前"),
        "logits": lambda: model.logits([1]),
        "read": lambda: story.read() + waiting.read(),
        "text": lambda: waiting.text,
    }
    for name, use in uses.items():
        try:
            use()
            print(name, "went through", flush=True)
        except tinyzh.GenerationError as error:
            print(name, "fork" in str(error) and "open" in str(error), flush=True)
    story.cancel()
    with tinyzh.Model(sys.argv[1]) as own:
        print("own", own.generate("从前", max_new_tokens=3, seed=2).wait(), flush=True)
    model.close()
    del model, story, waiting    # and whatever is left of them at the end of the process
    gc.collect()
    print("child ends", flush=True)
else:
    _, status = os.waitpid(child, 0)
    print("status", status, story.finish_reason in (None, "length"), flush=True)
"""


def test_a_forked_child_gets_a_clear_error_and_ends(slow_path: Path) -> None:
    run = python(FORKED, slow_path)
    lines = run.stdout.splitlines()
    assert lines == [
        *(
            f"{use} True"
            for use in ("generate", "generate_many", "score", "logits", "read", "text")
        ),
        "own True",
        "child ends",
        "status 0 True",
    ], run.stderr
    assert run.stderr == ""


def test_a_forked_child_ends_as_quickly_as_its_parent(tiny_path: Path) -> None:
    """Though a thread of the parent, which is not in the child, was in the core."""
    code = """
import asyncio, os, sys, time, tinyzh, warnings
warnings.simplefilter("ignore")

def story():
    return asyncio.run(tinyzh.Model(sys.argv[1]).generate("从前", seed=1).aread())

expected = story()
child = os.fork()
if child == 0:
    sys.exit(story() != expected)
start = time.monotonic()
_, status = os.waitpid(child, 0)
print(status, time.monotonic() - start < 3)
"""
    run = python(code, tiny_path)
    assert (run.stdout, run.stderr) == ("0 True\n", "")


def test_a_pool_of_forked_processes(tiny_path: Path) -> None:
    code = """
import multiprocessing, sys, tinyzh, warnings
warnings.simplefilter("ignore")

def one(seed):
    with tinyzh.Model(sys.argv[1]) as model:
        return model.generate("从前", seed=seed).read()

model = tinyzh.Model(sys.argv[1])
expected = [model.generate("从前", seed=seed).read() for seed in range(1, 5)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(one, range(1, 5)) == expected)
"""
    run = python(code, tiny_path)
    assert (run.stdout, run.stderr) == ("True\n", "")


# ---- nothing left behind ------------------------------------------------------------------------


def count(folder: str) -> int:
    return len(os.listdir(f"/proc/self/{folder}"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts in Linux's /proc")
def test_closed_models_leave_no_threads_and_no_files(tiny_path: Path) -> None:
    before = count("task"), count("fd")
    for _ in range(20):
        with Model(tiny_path, threads=4) as model:
            model.generate("从前", seed=1).read()
        del model
    assert (count("task"), count("fd")) == before


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts in Linux's /proc")
def test_a_model_that_does_not_open_leaves_nothing_either(tiny_path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.bin"
    bad.write_bytes(tiny_path.read_bytes()[:-1])
    before = count("task"), count("fd")
    for _ in range(20):
        with pytest.raises(tinyzh.CheckpointError):
            Model(bad, threads=4)
        with pytest.raises(tinyzh.TokenizerError):
            Model(tiny_path.read_bytes())
    assert (count("task"), count("fd")) == before


def test_dropping_a_model_that_is_being_read(slow_path: Path) -> None:
    """The engine leaves word for readers while it is dropped, and while they go."""
    code = """
import asyncio, sys, tinyzh
async def read(story):
    async for _ in story: pass
async def main():
    for i in range(30):
        model = tinyzh.Model(sys.argv[1], threads=1)
        stories = [model.generate("从前", min_new_tokens=10**6) for _ in range(4)]
        tasks = [asyncio.create_task(read(story)) for story in stories]
        await asyncio.sleep(0.003 * (i % 4))
        if i % 2:
            model.close()
        for task in tasks: task.cancel()
        del model, tasks, stories
asyncio.run(main())
print("done")
"""
    run = python(code, slow_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")


def test_the_library_prints_nothing(tiny_path: Path) -> None:
    code = """
import sys, tinyzh
model = tinyzh.Model(sys.argv[1])
model.generate("从前").read(); model.score("从前"); model.logits([1])
try: tinyzh.Model("/dev/null")
except tinyzh.TinyzhError: pass
"""
    run = python(code, tiny_path)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
