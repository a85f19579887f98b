"""Several processes train as one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="trains; pip install 'tinyzh[train]'")

import tinyzh  # noqa: E402
from tiny_runs import tiny_run  # noqa: E402
from tinyzh.train.device import Workers, choose_device, resolve  # noqa: E402
from tinyzh.train.errors import TrainingError  # noqa: E402
from tinyzh.train.log import read_table  # noqa: E402

HERE = Path(__file__).parent


def gradients(out: Path, processes: int, accumulate: int) -> dict[str, np.ndarray]:
    package = Path(tinyzh.__file__).parents[1]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [
        sys.executable,
        *(launch if processes > 1 else []),
        str(HERE / "worker_gradients.py"),
        str(out),
        str(accumulate),
    ]
    env = {**os.environ, "PYTHONPATH": f"{package}:{HERE}", "OMP_NUM_THREADS": "1"}
    # Twice, since the port that the launcher chose may be taken before its processes meet there.
    for _ in range(2):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
        if run.returncode == 0:
            break
    assert run.returncode == 0, run.stderr
    return dict(np.load(out / "gradients.npz"))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    for name, index in (("auto", 1), ("cuda", 1), ("cuda:0", 0)):
        assert choose_device(name, 1) == torch.device("cuda", index)


def test_an_older_gpu_trains_in_the_half_precision_that_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = tiny_run(precision="auto").training
    for native, expected in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr(
            torch.cuda,
            "is_bf16_supported",
            lambda including_emulation=True, native=native: native or including_emulation,
        )
        assert resolve(settings, torch.device("cuda:0")).precision == expected


def test_a_process_whose_partner_has_ended_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, lambda *backend: None)
    workers = Workers("cpu")
    with (
        pytest.raises(TrainingError, match="another process of this run has ended"),
        workers.joined(),
    ):
        raise RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:40512")
    with pytest.raises(RuntimeError, match=r"^a bug$"), workers.joined():
        raise RuntimeError("a bug")


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this PyTorch cannot use several processes"
)
def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    one = gradients(tmp_path / "one", 1, 1)
    two = gradients(tmp_path / "two", 2, 2)  # each half of the batch in two parts
    assert one.keys() == two.keys()
    for name, expected in one.items():
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(two[name], expected, rtol=1e-4, atol=1e-7, err_msg=name)
    logs = [read_table(tmp_path / name / "log.csv")[-1] for name in ("one", "two")]
    assert logs[0]["tokens"] == logs[1]["tokens"] == 8 * 16
    for name in ("train_loss", "valid_loss"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-5), name
