"""Work for several processes."""

from __future__ import annotations

import itertools
import operator
import os
import subprocess
import sys
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
