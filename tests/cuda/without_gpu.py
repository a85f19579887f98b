"""A package with CUDA in it, on a machine without a GPU: it works, and says what is missing."""

from __future__ import annotations

import tinyzh
from tinyzh import _core
from tinyzh.devices import find_cuda

assert _core.devices() == ["cpu", "cuda"], _core.devices()
if find_cuda().gpus:
    raise SystemExit("there is a GPU: run tests/test_cuda.py")
with tinyzh.Model(device="auto") as model:
    assert model.device == "cpu"
    assert model.generate("从前", seed=1, max_new_tokens=5).read()
try:
    tinyzh.Model(device="cuda")
except tinyzh.BackendError as error:
    print(error)
    if "take device cpu or auto" not in str(error):
        raise
else:
    raise SystemExit("a model was opened on a GPU that is not there")
