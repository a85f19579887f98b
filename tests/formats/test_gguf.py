"""GGUF: what is read, and what every other file is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinyzh
from hypothesis import given, settings
from hypothesis import strategies as st
from tinyzh import CheckpointError, MissingPackage, Model, TinyzhError, TokenizerError
from tinyzh.formats.conversion import convert
from tinyzh.formats.gguf import NAMES
from zoo import get

gguf = pytest.importorskip("gguf", reason="reads and writes GGUF; pip install 'tinyzh[gguf]'")
pytest.importorskip("google.protobuf", reason="writes tokenizers; pip install 'tinyzh[gguf]'")

Types = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    convert(get("hidden 2268", folder).path, folder / "m.gguf", "gguf")
    return folder / "m.gguf"


def rewrite(
    source: Path,
    target: Path,
    *,
    change: dict[str, Any] | None = None,
    leave_out: tuple[str, ...] = (),
    kind: Any = None,
    more: dict[str, np.ndarray] | None = None,
) -> Path:
    """The file once more with other values, with tensors missing, rounded or added."""
    reader = gguf.GGUFReader(source)
    change = change or {}
    writer = gguf.GGUFWriter(target, change.pop("general.architecture", "llama"))
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in leave_out:
            continue
        if key not in change:
            sub = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], sub)
    for key, value in change.items():
        types = gguf.GGUFValueType
        of = {int: types.UINT32, float: types.FLOAT32, str: types.STRING, bool: types.BOOL}
        writer.add_key_value(key, value, of[type(value)])
    for tensor in reader.tensors:
        if tensor.name in leave_out:
            continue
        data = np.asarray(tensor.data)
        chosen = kind if kind is not None and data.ndim > 1 and data.shape[-1] % 32 == 0 else None
        if chosen is not None:
            data = gguf.quants.quantize(data, chosen)
        writer.add_tensor(tensor.name, data, raw_dtype=chosen)
    for name, array in (more or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def test_the_same_model(original: Path) -> None:
    with Model(original) as model:
        assert model.format == "GGUF"
        assert model.dtype == "float32"
        assert repr(model).startswith("<tinyzh.Model m.gguf")
        assert model.generate("从前", temperature=0, max_new_tokens=5).read()
    with Model(original, dtype="int8") as small:
        assert small.memory()["file"] == 0  # the float32 arrays have been let go of


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_every_type_is_what_the_package_makes_of_it(
    original: Path, tmp_path: Path, kind: str
) -> None:
    path = rewrite(original, tmp_path / "m.gguf", kind=Types[kind])
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert any(tensor.tensor_type.name == kind for tensor in tensors.values())
    with Model(path) as model:
        for name, array in model.weights.items():
            tensor = tensors[NAMES.of(name)]
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert (array == expected.reshape(array.shape)).all(), name


def test_a_tied_classifier_and_one_of_its_own(tmp_path: Path) -> None:
    for name, tied in (("grouped queries", True), ("classifier of its own", False)):
        folder = tmp_path / name
        folder.mkdir()
        convert(get(name, folder).path, folder / "m.gguf", "gguf")
        with Model(folder / "m.gguf") as model:
            assert model.config.tied is tied
            assert ("wcls" in model.weights) is not tied


def test_rows_that_are_no_multiple_of_32_stay_f16(original: Path, tmp_path: Path) -> None:
    convert(original, tmp_path / "small.gguf", "gguf", dtype="int8")
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "small.gguf").tensors}
    assert types["blk.0.ffn_gate.weight"] == "Q8_0"  # rows of 96
    assert types["blk.0.ffn_down.weight"] == "F16"  # rows of 2268
    assert types["blk.0.ffn_norm.weight"] == "F32"


def test_other_ends_and_other_rules_for_spaces(original: Path, tmp_path: Path) -> None:
    change = {
        "tokenizer.ggml.eos_token_id": 265,
        "tokenizer.ggml.add_space_prefix": False,
        "llama.rope.freq_base": 5e5,
    }
    path = rewrite(original, tmp_path / "m.gguf", change=change)
    with Model(original) as before, Model(path) as after:
        assert after.special.ends == (1, 265)
        assert after.config.rope_theta == 5e5
        assert before.tokenizer.adds_dummy_prefix
        assert not after.tokenizer.adds_dummy_prefix
        assert after.tokenizer.encode("从前")[1:] == before.tokenizer.encode("从前")[2:]


def test_more_ends_and_where_a_text_begins(original: Path, tmp_path: Path) -> None:
    with Model(original) as model:
        ids = model.tokenizer.encode("从前", bos=False)
    changes = {
        "tokenizer.ggml.bos_token_id": 5,
        "tokenizer.ggml.eot_token_id": 266,
        "tokenizer.ggml.eom_token_id": 267,
    }
    with Model(rewrite(original, tmp_path / "m.gguf", change=changes)) as model:
        assert model.special == tinyzh.Special.of(5, 2, 266, 267)
        assert model.tokenizer.encode("从前") == [5, *ids]
        assert model.generate("从", logit_bias={267: 100}).read() == ""
    silent = {"tokenizer.ggml.add_bos_token": False}
    with Model(rewrite(original, tmp_path / "m.gguf", change=silent)) as model:
        assert model.tokenizer.encode("从前") == ids
        assert model.tokenizer.encode("") == [1]


# ---- refusing ------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "phi": ({"change": {"general.architecture": "phi3"}}, "of the architecture 'phi3'"),
    "split": ({"change": {"split.count": 3}}, "one of 3 parts of a model; join them"),
    "experts": ({"change": {"llama.expert_count": 8}}, "a mixture of 8 experts"),
    "scaled": (
        {"change": {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}},
        "positions scaled by the rule 'yarn' and the factor 4",
    ),
    "scaled without a factor": (
        {"change": {"llama.rope.scaling.type": "longrope"}},
        "positions scaled by the rule 'longrope'",
    ),
    "scaled without a rule": (
        {"change": {"llama.rope.scaling.factor": 2.0}},
        "positions scaled by the rule 'none' and the factor 2",
    ),
    "scaled as in old files": (
        {"change": {"llama.rope.scale_linear": 4.0}},
        "positions scaled by the rule 'none' and the factor 4",
    ),
    "vocabulary": ({"leave_out": ("token_embd.weight",)}, "holds no token_embd.weight, so no"),
    "missing": ({"leave_out": ("blk.0.ffn_up.weight",)}, r"holds no blk\.0\.ffn_up\.weight"),
    "bias": (
        {"more": {"blk.0.attn_q.bias": np.zeros(96, np.float32)}},
        r"holds blk\.0\.attn_q\.bias, which is not part of a Llama",
    ),
    "rope factors": (
        {"more": {"rope_freqs.weight": np.ones(8, np.float32)}},
        r"holds rope_freqs\.weight",
    ),
    "heads": ({"change": {"llama.attention.head_count": 7}}, "7 heads share a width of 96"),
    "head size": ({"change": {"llama.attention.key_length": 64}}, "key_length is 64"),
    "part of a head": ({"change": {"llama.rope.dimension_count": 8}}, "dimension_count is 8"),
    "layers": ({"change": {"llama.block_count": 2}}, r"holds no blk\.1\.attn_norm\.weight"),
    "no layers": ({"leave_out": ("llama.block_count",)}, "llama.block_count is None"),
    "hidden": ({"change": {"llama.feed_forward_length": 99}}, r"\(2268, 96\), .* \(99, 96\)"),
    "context": ({"change": {"llama.context_length": 2**30}}, "seq_len is 1073741824"),
    "bos": (
        {"change": {"tokenizer.ggml.bos_token_id": 600}},
        r"tokenizer\.ggml\.bos_token_id is 600: expected a token id from 0 to 289",
    ),
    "end": ({"change": {"tokenizer.ggml.eot_token_id": "2"}}, "eot_token_id is '2': expected a"),
    "default": ({"change": {"general.sampling.top_p": 7.0}}, "top_p is 7"),
    "text": ({"change": {"llama.block_count": "1"}}, "llama.block_count is '1'"),
}


@pytest.mark.parametrize(("how", "words"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_cannot_be_computed_is_named(
    original: Path, tmp_path: Path, how: dict[str, Any], words: str
) -> None:
    path = rewrite(original, tmp_path / "m.gguf", **{**how, "change": dict(how.get("change", {}))})
    with pytest.raises(CheckpointError, match=words) as raised:
        Model(path)
    assert "m.gguf" in str(raised.value)


def test_a_scale_of_one_changes_nothing(original: Path, tmp_path: Path) -> None:
    change = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 1.0}
    Model(rewrite(original, tmp_path / "m.gguf", change=change)).close()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\1\0\0\0" + bytes(100), "version 1; 2 and 3 can be read: convert the original"),
        (b"\x63\0\0\0" + bytes(100), "version 99; 2 and 3 can be read: pip install -U gguf"),
        (b"\0\0\0\3" + bytes(100), "for big-endian machines"),
        (b"", r"damaged or incomplete .*: download it again"),
        (b"\3\0\0\0", r"damaged or incomplete .*: download it again"),
    ],
)
def test_versions_that_are_not_read(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + data)
    with pytest.raises(CheckpointError, match=words) as raised:
        Model(tmp_path / "m.gguf")
    assert "\n" not in str(raised.value)


def test_a_tokenizer_of_another_kind(original: Path, tmp_path: Path) -> None:
    path = rewrite(original, tmp_path / "m.gguf", change={"tokenizer.ggml.model": "gpt2"})
    with pytest.raises(TokenizerError, match=r"of the kind 'gpt2', .* pass tokenizer="):
        Model(path)
    tokenizer = get("hidden 2268", tmp_path).tokenizer
    with Model(path, tokenizer=tokenizer) as model:
        assert model.generate("从前", max_new_tokens=2).read() is not None


def test_without_the_package(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(MissingPackage, match=r"GGUF file: .*pip install 'tinyzh\[gguf\]'"):
        Model(original)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], Path]:
    folder = tmp_path_factory.mktemp("fuzz")

    def put(data: bytes) -> Path:
        (folder / "m.gguf").write_bytes(data)
        return folder / "m.gguf"

    return put


@settings(max_examples=60, deadline=None)
@given(share=st.integers(0, 1000), byte=st.integers(0, 255), cut=st.booleans())
def test_any_byte_of_the_header_may_be_wrong_and_any_end_missing(
    original: Path, place: Callable[[bytes], Path], share: int, byte: int, cut: bool
) -> None:
    data = bytearray(original.read_bytes())
    header = len(data) - sum(int(t.n_bytes) for t in gguf.GGUFReader(original).tensors)
    if cut:
        path = place(bytes(data[: 4 + share * (len(data) - 5) // 1000]))
    else:
        # Not the numbers of what follows: the package believes those.
        data[24 + share * (header - 25) // 1000] = byte
        path = place(bytes(data))
    try:
        Model(path).close()
    except TinyzhError:
        pass
    else:
        assert not cut


def test_a_page_of_defaults_is_not_needed(original: Path, tmp_path: Path) -> None:
    """A file that says less has llama.cpp's defaults."""
    less = ("llama.attention.head_count_kv", "llama.rope.freq_base", "llama.rope.dimension_count")
    with Model(rewrite(original, tmp_path / "m.gguf", leave_out=less)) as model:
        assert model.config == tinyzh.Model(original, tokenizer=False).config
