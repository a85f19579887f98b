"""Work for several processes."""

from __future__ import annotations

import itertools
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tinyzh
from tinyzh.train.errors import TrainingError
from tinyzh.train.parallel import ordered_map

SCRIPT = """
from tinyzh.train.parallel import ordered_map

with ordered_map(abs, range(9), 2) as done:
    print(list(done))
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_results_are_in_order_and_items_may_be_without_end(processes: int) -> None:
    with ordered_map(operator.neg, itertools.count(), processes) as done:
        assert list(itertools.islice(done, 30)) == [-n for n in range(30)]


def test_a_process_that_is_killed_is_an_error() -> None:
    with (
        pytest.raises(TrainingError, match="memory may be short"),
        ordered_map(os._exit, [1], 2) as done,
    ):
        list(done)


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    """Each process that it starts would start others, without end."""
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(Path(tinyzh.__file__).parents[1])}
    command = [sys.executable, str(tmp_path / "script.py")]
    told = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert told.returncode == 1
    assert '`if __name__ == "__main__":`' in told.stderr


SLOW = """
import sys, time
from tinyzh.train.parallel import ordered_map

if __name__ == "__main__":
    try:
        with ordered_map(time.sleep, [0, 30, 30], 2) as done:
            print("started", flush=True)
            for _ in done:
                print("working", flush=True)
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""


@pytest.mark.parametrize("when", ["started", "working"])
def test_ctrl_c_ends_all_processes_at_once_and_none_of_them_talks(
    tmp_path: Path, when: str
) -> None:
    (tmp_path / "script.py").write_text(SLOW, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(Path(tinyzh.__file__).parents[1])}
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as program:  # fmt: skip
        assert program.stdout is not None
        while program.stdout.readline() != f"{when}\n":
            pass
        time.sleep(0.1 if when == "started" else 0)  # the processes are starting
        began = time.monotonic()
        os.killpg(program.pid, signal.SIGINT)
        _, err = program.communicate(timeout=60)
    assert err == "interrupted\n"
    assert time.monotonic() - began < 20
