"""``python -m bench.gpu`` without a GPU: its limits, its table, what it says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from checkpoints import Shape, random_tensors, save, v2
from places import ROOT
from tinyzh import Model, _core, devices

H100 = ("H100", (9, 0), 80 * 10**9, 132, 1.83e9, 3.35e12)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("bench.gpu.__main__")


def test_the_limits_of_an_h100(gpu: ModuleType) -> None:
    limits = sys.modules["bench.gpu.limits"]
    h100 = limits.Properties(*H100)
    assert h100.tensor_operations == pytest.approx(989e12, rel=0.01)
    weights = limits.matrix_weights(gpu.STORY_93M)
    assert weights == 93_340_416 - 25 * 768  # all but the norms
    one = limits.step_seconds(h100, gpu.STORY_93M, "float16", 1, 0)
    assert one["memory"] == pytest.approx(2 * weights / 3.35e12)  # 56 us
    many = limits.step_seconds(h100, gpu.STORY_93M, "float16", 1024, 100)
    kv = 1024 * 100 * 36 * 1024  # 36 KiB a position
    assert many["memory"] == pytest.approx((2 * weights + kv) / 3.35e12)
    assert many["arithmetic"] == pytest.approx(2 * weights * 1024 / h100.tensor_operations)
    speed = limits.tokens_per_second(h100, gpu.STORY_93M, "float16", 1024, 100)
    assert speed == pytest.approx(1024 / many["memory"])
    assert limits.step_seconds(h100, gpu.STORY_93M, "int8", 1, 0)["arithmetic"] is None
    unknown = limits.Properties("new", (15, 0), *H100[2:])
    assert unknown.tensor_operations is None
    assert limits.tokens_per_second(unknown, gpu.STORY_93M, "float16", 1, 0) > 0


def test_bytes_of_a_weight_are_those_of_the_layouts(gpu: ModuleType, tmp_path: Path) -> None:
    limits = sys.modules["bench.gpu.limits"]
    shape = Shape(
        dim=256, hidden_dim=512, n_layers=2, n_heads=8, n_kv_heads=4, vocab_size=512, seq_len=64
    )
    path = save(tmp_path / "model.bin", v2(shape, random_tensors(shape), group=64))
    for dtype in ("int8", "int4"):
        with Model(path, dtype=dtype, tokenizer=False) as model:
            read = model.memory()["read_per_token"] / limits.matrix_weights(model.config)
            assert limits.WEIGHT_BYTES[dtype] == pytest.approx(read, rel=0.05)


def test_the_table(gpu: ModuleType) -> None:
    result = {
        "gpu": {"name": "Toy GPU"},
        "build": "CUDA 13.0",
        "version": "0",
        "tinyzh": {"float16": {"1": 100.0, "64": 2.0, "1024": 3.0, "prompt": 4.0, "32 prompts": 5}},
        "limits": {"float16": {s: {"tokens_per_second": 200.0} for s in ("1", "64", "1024")}},
        "transformers": {"1": 7.0},
        "llama.cpp": sys.modules["bench.gpu.neighbours"].speeds_of(
            [{"n_prompt": 512, "avg_ts": 8.0}, {"n_prompt": 0, "avg_ts": 9.0}]
        ),
    }
    lines = gpu.table(result).splitlines()
    assert lines[4] == (
        "| tinyzh float16 | 100 (50% of 200) | 2 (1% of 200) | 3 (2% of 200) | 4 | 5 |"
    )
    assert lines[5] == "| transformers float16 | 7 |  |  |  |  |"
    assert lines[6] == "| llama.cpp float16 | 9 |  |  | 8 |  |"


def test_what_is_missing_is_said(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "_DRIVERS", ("libnowhere.so.1",))
    monkeypatch.setattr(_core, "devices", lambda: ["cpu"])
    with pytest.raises(SystemExit, match="no CUDA in it: TINYZH_CUDA=1 pip install"):
        gpu.main([])
    monkeypatch.setattr(_core, "devices", lambda: ["cpu", "cuda"])
    with pytest.raises(SystemExit, match=r"no GPU: no driver: .*; this benchmark needs one"):
        gpu.main([])
    with pytest.raises(SystemExit):
        gpu.main(["--tokens", "3"])
    assert "--tokens is 3: expected 16 to 700" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["--dtypes", "float8"])
