"""What a conversion promises is looked at closely: nearly the same model is another one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
from tinyzh import CheckpointError, Model, Special
from tinyzh.formats.conversion import Conversion, convert
from tinyzh.formats.huggingface_writer import write_folder
from tinyzh.formats.pieces import Pieces
from tinyzh.formats.verification import verify
from zoo import SHAPES, get

pytest.importorskip("google.protobuf", reason="writes folders; pip install 'tinyzh[hub]'")
pytest.importorskip("gguf", reason="reads and writes GGUF; pip install 'tinyzh[gguf]'")

SHAPE = SHAPES["grouped queries"]
WAYS = [
    ("v0", "auto"), ("v2", "auto"), ("tz", "float32"), ("tz", "int8"), ("tz", "int4"),
    ("hf", "float32"), ("hf", "float16"), ("gguf", "float32"), ("gguf", "float16"),
    ("gguf", "int8"),
]  # fmt: skip

Tensors = dict[str, Any]
Change = Callable[[Tensors], object]


def interleaved(tensors: Tensors) -> None:
    """Rows of wq and wk as transformers has them."""
    for name, heads in (("wq", SHAPE.n_heads), ("wk", SHAPE.n_kv_heads)):
        rows = tensors[name].reshape(SHAPE.n_layers, heads, SHAPE.head_size // 2, 2, SHAPE.dim)
        tensors[name] = np.ascontiguousarray(rows.swapaxes(2, 3)).reshape(tensors[name].shape)


def zeroed(tensors: Tensors) -> None:
    tensors["w3"][1] = 0


def exchanged(tensors: Tensors) -> None:
    tensors["w2"][[0, 1]] = tensors["w2"][[1, 0]]


def one_weight(tensors: Tensors) -> None:
    tensors["wo"][1, 3, 4] += 0.2


CHANGES: dict[str, tuple[Change, str]] = {
    "rows as transformers has them": (interleaved, r"layers\.0\.wq is off by"),
    "a matrix of zeros": (zeroed, r"layers\.1\.w3 is off by"),
    "layers exchanged": (exchanged, r"layers\.0\.w2 is off by"),
    "one weight": (one_weight, r"layers\.1\.wo is off by"),
}


@pytest.fixture
def pair(tmp_path: Path) -> Callable[[Change], tuple[Path, Path]]:
    """``pair(change)``: a model, and the same with a change."""

    def write(change: Change) -> tuple[Path, Path]:
        kept = get("grouped queries", tmp_path)
        tensors = checkpoints.random_tensors(SHAPE, seed=5)
        change(tensors)
        other = checkpoints.save(tmp_path / "other.bin", checkpoints.v0(SHAPE, tensors))
        (tmp_path / "other.tokenizer.bin").write_bytes(kept.tokenizer.read_bytes())
        return kept.path, other

    return write


def written(source: Path, target: Path, way: tuple[str, str]) -> Conversion:
    target.parent.mkdir(exist_ok=True)
    return convert(source, target, way[0], dtype=way[1])


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_other_weights_are_seen_in_every_precision(
    pair: Callable[[Change], tuple[Path, Path]],
    tmp_path: Path,
    way: tuple[str, str],
    change: Change,
    words: str,
) -> None:
    source, other = pair(change)
    done = written(other, tmp_path / "out" / "m", way)
    verify(other, done)
    with pytest.raises(CheckpointError, match=words + r" .*: do not use it") as raised:
        verify(source, done)
    assert str(raised.value).startswith(f"{tmp_path}/out/m: its layers.")


@pytest.mark.parametrize("way", [way for way in WAYS if way[0] not in ("v0", "v2")], ids="-".join)
@pytest.mark.parametrize("change", [{"rope_theta": 500000.0}, {"norm_eps": 1e-6}], ids=str)
def test_another_configuration_is_seen(
    tmp_path: Path, way: tuple[str, str], change: dict[str, float]
) -> None:
    kept = get("grouped queries", tmp_path)
    with Model(kept.path) as model:
        pieces = Pieces.of(model.tokenizer)
        config = dataclasses.replace(model.config, **change)
        write_folder(tmp_path / "other", config, model.weights, pieces)
    (name,) = change
    done = written(tmp_path / "other", tmp_path / "out" / "m", way)
    verify(tmp_path / "other", done)
    with pytest.raises(CheckpointError, match=rf"its {name} is .* and was .*: do not use it"):
        verify(kept.path, done)


@pytest.mark.parametrize("packed", ["int8", "int4"])
@pytest.mark.parametrize("way", [way for way in WAYS if way[0] in ("hf", "gguf")], ids="-".join)
def test_packed_weights_are_copied_and_only_computed_with_otherwise(
    tmp_path: Path, packed: str, way: tuple[str, str]
) -> None:
    """Logits differ, since activations are rounded on one side only; the weights do not."""
    kept = get("grouped queries", tmp_path)
    convert(kept.path, tmp_path / "m.tz", "tz", dtype=packed)
    result = verify(tmp_path / "m.tz", written(tmp_path / "m.tz", tmp_path / "out" / "m", way))
    assert (result.weights == 0) == (way[1] == "float32")
    assert result.logits > 0


def test_a_file_that_changed_afterwards(tmp_path: Path) -> None:
    """By two steps of one number of one matrix."""
    kept = get("grouped queries", tmp_path)
    done = convert(kept.path, tmp_path / "out.bin", "v2")
    data = bytearray(done.target.read_bytes())
    at = 256 + 4 * (2 * 2 + 1) * SHAPE.dim  # of the first number of tok_emb
    data[at] = (data[at] + 2) % 256
    done.target.write_bytes(data)
    with pytest.raises(
        CheckpointError, match=r"its tok_emb is off by .*, more than rounding makes"
    ):
        verify(kept.path, done)


@pytest.mark.parametrize("format", ["hf", "gguf"])
def test_other_special_tokens_defaults_and_tokenizers_are_seen(tmp_path: Path, format: str) -> None:
    kept = get("grouped queries", tmp_path)
    with Model(kept.path) as model:
        pieces = Pieces.of(model.tokenizer)

        def folder(name: str, pieces: Pieces = pieces, **said: Any) -> Path:
            write_folder(tmp_path / name, model.config, model.weights, pieces, **said)
            return tmp_path / name

        plain = folder("plain")
        texts = list(pieces.texts)
        texts[260:262] = reversed(texts[260:262])
        others = {
            "special": (folder("special", special=Special.of(5, 6)), "its special tokens are"),
            "silent": (folder("silent", special=Special(add_bos=False)), "its special tokens"),
            "default": (folder("default", defaults={"top_k": 3}), "its defaults are"),
            "pieces": (
                folder("pieces", dataclasses.replace(pieces, texts=texts)),
                "its tokenizer has other pieces",
            ),
            "rules": (
                folder("rules", dataclasses.replace(pieces, dummy_prefix=False)),
                "its tokenizer cuts '.*… in another way",
            ),
        }
    for name, (other, words) in others.items():
        done = convert(other, tmp_path / f"{name}.out", format)
        verify(other, done)
        plainly = convert(plain, tmp_path / f"{name}.again", format)
        done.tokenizer, done.special = plainly.tokenizer, plainly.special
        with pytest.raises(CheckpointError, match=words):
            verify(plain, done)
    done = convert(plain, tmp_path / "out", "hf")
    for name in ("tokenizer.model", "tokenizer.json"):
        (tmp_path / "out" / name).unlink()
    with pytest.raises(CheckpointError, match="its tokenizer cannot be read"):
        verify(plain, done)
