"""Nothing in a safetensors file is believed before it is checked."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinyzh import CheckpointError
from tinyzh.formats.safetensors import open_safetensors

GOOD = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [2], "data_offsets": [24, 28]},
}
DATA = np.arange(6, dtype="<f4").tobytes() + np.array([0x3F80, 0xC000], "<u2").tobytes()


def file(header: Any = GOOD, data: bytes = DATA) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return path


def test_tensors_as_they_are(tmp_path: Path) -> None:
    found = open_safetensors(write(tmp_path, file()))
    assert list(found) == ["a", "b"]
    assert found["a"].shape == (2, 3)
    assert found["a"].read().tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].read().tolist() == [1.0, -2.0]
    assert found["b"].read().dtype == np.float32


def test_the_same_as_the_library(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="compares with the library")
    random = np.random.default_rng(1)
    tensors = {
        "x": random.standard_normal((3, 5)).astype(np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "half": random.standard_normal(7).astype(np.float16),
        "scalar": np.array(2.5),
    }
    library.save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = open_safetensors(tmp_path / "model.safetensors")
    assert sorted(found) == sorted(tensors)
    for name, array in tensors.items():
        assert found[name].read().dtype == array.dtype
        assert found[name].read().tobytes() == array.tobytes()
        assert found[name].shape == array.shape


def entry(**values: Any) -> Any:
    return {**GOOD, "a": {**GOOD["a"], **values}}


BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "0 bytes"),
    "short": (b"123\x01567", r"\(7 bytes, with a header of [\d,]+\); download it again"),
    "length beyond": (struct.pack("<Q", 10**6) + b"{}", "10 bytes, with a header of 1,000,000"),
    "length beyond everything": (struct.pack("<Q", 2**64 - 1) + b"{}", "not a whole safetensors"),
    "cut in its header": (file()[:40], "not a whole safetensors file .* header of"),
    "a page": (b"<html><body>404</body></html>", "not a whole .* but an HTML or XML page"),
    "no json": (file(b"{nonsense"), "header makes no sense"),
    "a list": (file([1, 2]), "header makes no sense"),
    "no utf-8": (file(b'{"\xff": 1}'), "header makes no sense"),
    "deep": (file(b"[" * 100_000), "header makes no sense"),
    "entry is a number": (file({"a": 1}), "header makes no sense"),
    "no type": (file({"a": {"shape": [], "data_offsets": [0, 4]}}), "header makes no sense"),
    "unknown type": (file(entry(dtype="F4")), "unknown type 'F4'"),
    "type is a list": (file(entry(dtype=["F32"])), "header makes no sense"),
    "negative shape": (file(entry(shape=[-2, -3])), "header makes no sense"),
    "shape of text": (file(entry(shape=["2", 3])), "header makes no sense"),
    "huge shape": (file(entry(shape=[2**59, 2**59])), "a of .* bytes is said to lie from"),
    "other shape": (file(entry(shape=[2, 4])), "a of 32 bytes is said to lie from"),
    "three offsets": (file(entry(data_offsets=[0, 1, 2])), "header makes no sense"),
    "backwards": (file(entry(data_offsets=[24, 0])), "is said to lie from"),
    "overlap": (file({**GOOD, "b": {**GOOD["b"], "data_offsets": [20, 24]}}), "said to lie from"),
    "gap": (file({**GOOD, "b": {**GOOD["b"], "data_offsets": [25, 29]}}, DATA + b"1"), "said to"),
    "cut": (file()[:-1], "said to lie from"),
    "longer": (file() + b"1", "its tensors end at"),
}


@pytest.mark.parametrize(("data", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as raised:
        open_safetensors(write(tmp_path, data))
    assert "model.safetensors" in str(raised.value)


def test_whole_numbers_are_no_weights(tmp_path: Path) -> None:
    header = {"a": {"dtype": "I32", "shape": [1], "data_offsets": [0, 4]}}
    found = open_safetensors(write(tmp_path, file(header, bytes(4))))
    with pytest.raises(CheckpointError, match="a is of type I32; weights of F32, F16 and BF16"):
        found["a"].read()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    return lambda data: write(folder, data)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(file()) - 1), byte=st.integers(0, 255), cut=st.integers(0, 3))
def test_any_byte_may_be_wrong(
    place: Callable[[bytes], Path], at: int, byte: int, cut: int
) -> None:
    data = bytearray(file())
    data[at] = byte
    path = place(bytes(data[: len(data) - cut]))
    try:
        found = open_safetensors(path)
        for name in found:
            found[name].read()
    except CheckpointError:
        pass
