"""The C++ model computes what the NumPy model (reference.py) computes."""

from __future__ import annotations

import dataclasses

import checkpoints
import numpy as np
import pytest
import reference
import tinyzh
from checkpoints import Shape

SHAPES = [
    Shape(dim=2, hidden_dim=1, n_layers=1, n_heads=1, n_kv_heads=1, vocab_size=3, seq_len=4),
    Shape(dim=6, hidden_dim=5, n_layers=1, n_heads=3, n_kv_heads=1, vocab_size=7, seq_len=9),
    Shape(dim=12, hidden_dim=17, n_layers=2, n_heads=3, n_kv_heads=3, vocab_size=5, seq_len=16),
    Shape(dim=30, hidden_dim=41, n_layers=2, n_heads=5, n_kv_heads=1, vocab_size=50, seq_len=33),
    Shape(64, 172, 5, 8, 4, 512, 64),  # stories260K
    Shape(64, 2268, 1, 2, 2, 3000, 20),
    Shape(96, 256, 2, 6, 6, 2048, 128),
    Shape(128, 77, 2, 1, 1, 100, 40),  # head size 128
    Shape(256, 129, 1, 2, 1, 5000, 24),
    Shape(48, 100, 12, 4, 2, 33, 70, tied=False),
    Shape(40, 63, 3, 4, 2, 257, 300, tied=False),  # more positions than one pass takes
    Shape(72, 31, 2, 3, 3, 11, 20),
    Shape(768, 2268, 1, 12, 12, 3000, 6, tied=False),  # the width of the model this is for
]
#: Rows of 172 and 2268 columns are no multiples of these groups: the groups straddle rows.
QUANTISED = [
    (Shape(64, 172, 2, 8, 4, 512, 40), 32),
    (Shape(64, 2268, 1, 2, 2, 300, 12), 64),
    (Shape(48, 77, 3, 4, 2, 100, 30, tied=False), 16),
    (Shape(40, 41, 2, 4, 1, 33, 20), 8),
    (Shape(30, 7, 2, 5, 5, 20, 20, tied=False), 1),
]
FP32_TOLERANCE = 5e-5


def label(value: object) -> str:
    if isinstance(value, Shape):
        return "-".join(str(int(v)) for v in dataclasses.astuple(value))
    return str(value)


def some_ids(shape: Shape, seed: int = 1) -> list[int]:
    """A whole context of them."""
    random = np.random.default_rng(seed)
    return [int(i) for i in random.integers(0, shape.vocab_size, shape.seq_len)]


def open_model(data: bytes, dtype: str = "auto", kv_dtype: str = "auto") -> tinyzh.Model:
    return tinyzh.Model(data, tokenizer=False, dtype=dtype, kv_dtype=kv_dtype)


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    assert found.shape == expected.shape, what
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"{what}: off by {error:.2e} of the largest value"


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_logits_and_every_intermediate(shape: Shape) -> None:
    tensors, ids = checkpoints.random_tensors(shape), some_ids(shape)
    expected, named = reference.forward(tensors, shape, ids)
    model = open_model(checkpoints.v0(shape, tensors))
    found = model._engine.trace(ids)
    assert set(found) == set(named)
    for (
        name,
        value,
    ) in named.items():  # in the order of the computation: the first one names the step
        assert_close(found[name], value, FP32_TOLERANCE, name)
    assert_close(model.logits(ids), expected, FP32_TOLERANCE, "logits")


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_v0_and_v1_are_the_same_bits(shape: Shape) -> None:
    tensors, ids = checkpoints.random_tensors(shape, seed=2), some_ids(shape)
    old, new = (
        open_model(write(shape, tensors)).logits(ids) for write in (checkpoints.v0, checkpoints.v1)
    )
    assert old.tobytes() == new.tobytes()


@pytest.mark.parametrize(("shape", "group"), QUANTISED, ids=label)
def test_v2_as_float32_follows_the_flat_rule(shape: Shape, group: int) -> None:
    tensors, ids = checkpoints.random_tensors(shape, seed=3), some_ids(shape)
    expected, _ = reference.forward(checkpoints.dequantised(tensors, group), shape, ids)
    model = open_model(checkpoints.v2(shape, tensors, group), dtype="float32")
    assert model.dtype == "float32"
    assert_close(model.logits(ids), expected, FP32_TOLERANCE, "logits")


@pytest.mark.parametrize(("shape", "group"), QUANTISED, ids=label)
def test_v2_as_int8(shape: Shape, group: int) -> None:
    """Activations are rounded too; one that lies near a half may fall to the other side, and then
    all that follows moves a little: hence the wider tolerance."""
    tensors, ids = checkpoints.random_tensors(shape, seed=3), some_ids(shape)
    weights = checkpoints.dequantised(tensors, group)
    model = open_model(checkpoints.v2(shape, tensors, group), kv_dtype="float32")
    assert model.dtype == "int8"
    _, named = reference.forward(weights, shape, ids, int8_activations=True)
    found = model._engine.trace(ids)
    assert_close(found["layers.0.q"], named["layers.0.q"], 5e-3, "layers.0.q")
    assert_close(found["logits"], named["logits"], 0.05, "logits")
    typical = np.median(np.abs(found["logits"] - named["logits"])) / np.abs(named["logits"]).max()
    assert typical < 2e-3, f"half of the logits are off by {typical:.1e} of the largest"


@pytest.mark.parametrize("shape", SHAPES, ids=label)
def test_float32_file_as_int8(shape: Shape) -> None:
    """One scale a row of weights."""
    tensors, ids = checkpoints.random_tensors(shape, seed=4), some_ids(shape)
    weights = {
        name: t
        if name in checkpoints.VECTORS
        else reference.rounded(t.astype(np.float64)).astype(np.float32)
        for name, t in tensors.items()
    }
    model = open_model(checkpoints.v0(shape, tensors), dtype="int8")
    assert model.dtype == "int8"
    _, named = reference.forward(weights, shape, ids, int8_activations=True)
    found = model._engine.trace(ids)
    assert_close(found["layers.0.q"], named["layers.0.q"], 5e-3, "layers.0.q")
    assert_close(found["logits"], named["logits"], 0.05, "logits")


def test_memory_and_parameters_are_those_of_the_file() -> None:
    shape = Shape(64, 172, 2, 8, 4, 512, 40, tied=False)
    tensors = checkpoints.random_tensors(shape)
    parameters = sum(t.size for t in tensors.values())
    data = checkpoints.v0(shape, tensors)
    plain = open_model(data)
    assert plain.parameters == parameters
    page = 16 * 4 * 2 * shape.n_layers * shape.kv_dim
    assert plain.memory() == {
        "file": len(data),
        "weights": 0,  # used where they lie
        "kv_cache_limit": 64 * 3 * page,  # every stream's context
        "kv_cache": 0,
        "kv_cache_used": 0,
        "kv_cache_per_position": page // 16,
        "read_per_token": 4 * (parameters - shape.vocab_size * shape.dim),
    }
    small = open_model(data, dtype="int8").memory()
    assert parameters <= small["weights"] <= 1.2 * parameters
    assert small["read_per_token"] < plain.memory()["read_per_token"] / 3
