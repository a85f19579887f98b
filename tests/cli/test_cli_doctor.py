"""``tinyzh doctor``, and devices that are not there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import tinyzh
from cli_program import Cli, one_line
from tinyzh import BackendError, devices
from tinyzh.cli import doctor

# A driver of one GPU, as far as it is asked.
DRIVER = """
#include <string.h>
int cuInit(unsigned f) { (void)f; return START; }
int cuDriverGetVersion(int *v) { *v = 12040; return 0; }
int cuDeviceGetCount(int *n) { *n = GPUS; return 0; }
int cuDeviceGet(int *d, int i) { *d = 40 + i; return 0; }
int cuDeviceGetName(char *name, int n, int d) {
  (void)d;
  strncpy(name, "Toy GPU", n);
  return 0;
}
int cuDeviceTotalMem_v2(size_t *m, int d) { *m = d == 40 ? 8000000000u : 0; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) {
  (void)d;
  *v = a == 75 ? 8 : a == 76 ? 9 : -1;
  return 0;
}
"""


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, *, start: int = 0, gpus: int = 1) -> None:
    (folder / "driver.c").write_text(DRIVER, encoding="utf-8")
    library = folder / "libtoy.so"
    command = ["cc", f"-DSTART={start}", f"-DGPUS={gpus}", "-shared", "-fPIC", "-o", str(library)]
    try:
        subprocess.run([*command, str(folder / "driver.c")], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler to make a driver with")
    monkeypatch.setattr(devices, "_DRIVERS", ("libnowhere.so.1", str(library)))


def test_everything_is_on_the_page(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYZH_THREADS", "1")
    monkeypatch.setattr(devices, "_DRIVERS", ("libnowhere.so.1",))
    result = cli("doctor")
    assert result.code == 0
    with tinyzh.Model() as model:
        used = f"cpu, int8 (keys and values float16), {model.isa}, 1 threads"
        for word in (tinyzh.__version__, f"{model.isa} (used)", "TINYZH_THREADS=1", used):
            assert word in result.out
    built = tinyzh._core.cuda_build()
    cuda = f"built in: {built}" if built else "not built into this package"
    for word in ("numpy", cuda, "libnowhere.so.1 is not there", "从前"):
        assert word in result.out
    facts = json.loads(cli("doctor", "--json").out)
    assert facts["device"] == "cpu"
    assert facts["cuda"] == {
        "built": built or None,
        "driver": None,
        "gpus": [],
        "problem": "no driver: libnowhere.so.1 is not there",
    }
    assert facts["used"] == {
        "device": "cpu",
        "dtype": "int8",
        "kv_dtype": "float16",
        "ahead": 0,
        "graphs": False,
    }
    assert facts["packages"]["numpy"]
    assert facts["story"].startswith("从前")


def test_extras_that_are_not_installed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_EXTRAS", {"hub": ("numpy", "no_such_package")})
    assert "without no_such_package: pip install 'tinyzh[hub]'" in cli("doctor").out


def test_a_driver_and_its_gpus(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch)
    found = devices.find_cuda()
    assert found.driver == "12.4"
    assert found.gpus == [devices.Gpu("Toy GPU", 8_000_000_000, (8, 9))]
    out = cli("doctor").out
    assert "CUDA 12.4" in out
    assert "Toy GPU, 8.0 GB, sm_89" in out


def test_a_driver_without_a_gpu_or_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, monkeypatch, gpus=0)
    assert devices.find_cuda().problem == "the driver knows no GPU"
    (tmp_path / "other").mkdir()
    driver(tmp_path / "other", monkeypatch, start=100)
    assert devices.find_cuda().problem == "the driver does not start: cuInit gave 100"


def test_a_model_that_does_not_work(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYZH_ISA", "sse9")
    result = cli("doctor")
    assert result.code == 1
    assert "the built-in model does not work here" in one_line(result)
    assert "sse9" in result.err
    assert "python" in result.out


def test_the_device_of_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYZH_DEVICE", "tpu")
    with pytest.raises(BackendError, match="TINYZH_DEVICE is 'tpu': expected cpu, cuda or auto"):
        tinyzh.Model()
    with tinyzh.Model(device="cpu") as model:
        assert model.device == "cpu"
    assert "TINYZH_DEVICE is 'tpu'" in cli("doctor").err
    monkeypatch.setenv("TINYZH_DEVICE", "cuda")
    monkeypatch.setattr(tinyzh._core, "devices", lambda: ["cpu"])
    with pytest.raises(BackendError, match="TINYZH_DEVICE is 'cuda': this build has no CUDA"):
        tinyzh.Model()
    monkeypatch.setenv("TINYZH_DEVICE", "")
    with tinyzh.Model() as model:
        assert model.device == "cpu"


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    with tinyzh.Model(device="auto") as model:
        assert model.generate("从前", max_new_tokens=2).read()
    monkeypatch.setattr(tinyzh._core, "devices", lambda: ["cpu"])
    for device, words in (
        ("cuda", "this build has no CUDA in it; .*device='cpu'"),
        ("cuda:1", "device is 'cuda:1': expected cpu, cuda or auto"),
        ("tpu", "device is 'tpu': expected cpu, cuda or auto"),
        (7, "device is 7: expected cpu, cuda or auto"),
    ):
        with pytest.raises(BackendError, match=words):
            tinyzh.Model(device=device)  # type: ignore[arg-type]
