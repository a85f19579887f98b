"""Hugging Face folders: what is read, and what every other folder is told."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinyzh
from mistakes import KINDS, POINTER
from places import ROOT
from tinyzh import CheckpointError, FileError, FileMissing, Model, TokenizerError
from tinyzh.formats.conversion import convert
from tinyzh.formats.huggingface import half_split, interleaved
from zoo import get

pytest.importorskip("safetensors", reason="changes the folders; pip install 'tinyzh[hub]'")
pytest.importorskip("google.protobuf", reason="writes the folders; pip install 'tinyzh[hub]'")

DATA = ROOT / "tests" / "data"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    convert(get("grouped queries", folder).path, folder / "hf", "hf")
    return folder / "hf"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of a good folder, to be changed."""
    return Path(shutil.copytree(original, tmp_path / "hf"))


def change(path: Path, **values: Any) -> None:
    """Sets values of a JSON file; None takes one out."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    content = {k: v for k, v in content.items() if v is not None}
    path.write_text(json.dumps(content), encoding="utf-8")


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return dict(load_file(path))


def write_tensors(path: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """A safetensors file from types, shapes and bytes."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def logits(folder: Path) -> bytes:
    with Model(folder, tokenizer=False) as model:
        return model.logits([1, 5, 260, 270]).tobytes()


# ---- reading -------------------------------------------------------------------------------------


def test_rows_change_places_and_back() -> None:
    rows = np.arange(16)[:, None] * np.ones((1, 3))
    split = half_split(rows, 8)
    assert split[:, 0].tolist() == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]
    assert (interleaved(split, 8) == rows).all()


def test_a_folder_or_a_file_of_it(folder: Path) -> None:
    expected = logits(folder)
    assert Model(folder).format == "Hugging Face"
    for name in ("config.json", "model.safetensors"):
        assert logits(folder / name) == expected
    with Model(folder) as model:
        assert model.generate("从前", temperature=0, max_new_tokens=5).read()
        assert "hf:" in repr(model)
        path_of_tokenizer = model.tokenizer.path
    assert path_of_tokenizer == folder / "tokenizer.model"


def test_shards(folder: Path) -> None:
    from safetensors.numpy import save_file

    expected, tensors = logits(folder), read_tensors(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2]}
    parts["model-00002-of-00002.safetensors"] = names[1::2]
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / part)
    weight_map = {name: part for part, held in parts.items() for name in held}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    assert logits(folder) == expected
    assert logits(index) == expected

    weight_map[names[0]] = "../elsewhere.safetensors"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="names no files of this folder"):
        Model(folder)
    weight_map[names[0]] = "gone.safetensors"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(FileMissing, match=r"gone\.safetensors: no such file"):
        Model(folder)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_other_types_of_numbers(folder: Path, dtype: str) -> None:
    tensors = read_tensors(folder / "model.safetensors")

    def encoded(array: np.ndarray) -> tuple[bytes, np.ndarray]:
        """Its bytes, and what they stand for."""
        if dtype == "BF16":
            upper = (array.view(np.uint32) >> 16).astype("<u2")
            return upper.tobytes(), (upper.astype(np.uint32) << 16).view(np.float32)
        kind = {"F16": "<f2", "F64": "<f8"}[dtype]
        return array.astype(kind).tobytes(), array.astype(kind).astype(np.float32)

    pairs = {name: encoded(array) for name, array in tensors.items()}
    path = folder / "model.safetensors"
    write_tensors(path, {n: (dtype, tensors[n].shape, raw) for n, (raw, _) in pairs.items()})
    with Model(folder, tokenizer=False) as model:
        found = model.weights
        assert (found["tok_emb"] == pairs["model.embed_tokens.weight"][1]).all()
        theirs = pairs["model.layers.1.mlp.down_proj.weight"][1]
        assert (found["layers.1.w2"] == theirs).all()
        theirs = pairs["model.layers.0.self_attn.q_proj.weight"][1]
        assert (found["layers.0.wq"] == interleaved(theirs, model.config.head_size)).all()


def test_the_classifier_of_a_tied_model_may_be_there_once_more(folder: Path) -> None:
    from safetensors.numpy import save_file

    expected, tensors = logits(folder), read_tensors(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
    save_file(tensors, folder / "model.safetensors")
    assert logits(folder) == expected
    # Not tied, it counts.
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * 2
    save_file(tensors, folder / "model.safetensors")
    change(folder / "config.json", tie_word_embeddings=False)
    with Model(folder, tokenizer=False) as model:
        assert not model.config.tied
        doubled = model.logits([1, 5, 260, 270])
    assert (doubled == 2 * np.frombuffer(expected, np.float32).reshape(doubled.shape)).all()


def test_what_config_json_leaves_out_or_says_otherwise(folder: Path) -> None:
    path = folder / "config.json"
    expected = logits(folder)
    # As newer versions write it.
    change(path, rope_theta=None, rope_parameters={"rope_theta": 10000.0, "rope_type": "default"})
    change(path, head_dim=None, attention_bias=None, mlp_bias=None, hidden_act=None)
    change(path, rope_scaling=None)
    assert logits(folder) == expected
    change(path, rope_parameters={"rope_theta": 500000.0, "rope_type": "default"})
    with Model(folder) as model:
        assert model.config.rope_theta == 500000.0
    assert logits(folder) != expected
    change(path, rms_norm_eps=None, max_position_embeddings=None)
    with Model(folder) as model:
        assert model.config.norm_eps == pytest.approx(1e-6)  # transformers' defaults
        assert model.config.seq_len == 2048


def test_its_generation_config_becomes_the_defaults(folder: Path) -> None:
    path = folder / "generation_config.json"
    change(path, temperature=0.5, top_k=7, max_new_tokens=3, eos_token_id=[2, 300], min_p=None)
    with Model(folder) as model:
        assert (model.defaults.temperature, model.defaults.top_k) == (0.5, 7)
        story = model.generate("从前", seed=1)
        story.read()
        assert len(story.token_ids) <= 3
        same = model.generate("从前", seed=1, temperature=0.5, top_k=7, max_new_tokens=3)
        assert same.read() == story.text
        assert model.special.ends == (1, 2, 300)
        told = [story.text for story in model.generate_many(["从前"], seed=1)]
        assert told == [story.text]
        # Parameters of one's own are not mixed with them.
        own = model.generate("从前", params=tinyzh.SamplingParams(seed=1, max_new_tokens=9))
        own.read()
        assert len(own.token_ids) == 9 or own.finish_reason == "stop"
    change(path, do_sample=False)
    with Model(folder) as model:
        assert model.defaults.temperature == 0
    path.unlink()
    with Model(folder) as model:
        assert model.defaults == tinyzh.SamplingParams()
        assert model.special.ends == (1, 2)


def test_where_a_text_begins(folder: Path) -> None:
    with Model(folder) as model:
        ids = model.tokenizer.encode("从前", bos=False)
    change(folder / "generation_config.json", bos_token_id=5)
    with Model(folder) as model:
        assert model.special == tinyzh.Special.of(5, 1, 2)
        assert model.tokenizer.encode("从前") == [5, *ids]
    change(folder / "generation_config.json", bos_token_id=None, eos_token_id=None)
    change(folder / "config.json", bos_token_id=6, eos_token_id=7)
    with Model(folder) as model:  # where the one says nothing, the other does
        assert model.special == tinyzh.Special.of(6, 7)
    change(folder / "tokenizer_config.json", add_bos_token=False)
    for _ in range(2):
        with Model(folder) as model:
            assert model.tokenizer.encode("从前") == ids
            assert model.tokenizer.encode("") == [6]
        pytest.importorskip("tokenizers", reason="reads tokenizer.json")
        (folder / "tokenizer.model").unlink(missing_ok=True)


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eos_token_id", -1),
        ("eos_token_id", ["</s>"]),
        ("eos_token_id", 10**12),
        ("bos_token_id", -1),
        ("bos_token_id", 600),
        ("bos_token_id", True),
    ],
)
def test_special_tokens_that_are_none(folder: Path, file: str, name: str, value: Any) -> None:
    if file == "config.json":
        change(folder / "generation_config.json", **{name: None})
    change(folder / file, **{name: value})
    with pytest.raises(CheckpointError, match=f"/{file}: {name} is .*: expected a token id from"):
        Model(folder)


def test_a_vocabulary_that_was_rounded_up(folder: Path) -> None:
    from safetensors.numpy import save_file

    expected, tensors = logits(folder), read_tensors(folder / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    more = np.zeros((64 - len(embedding) % 64, embedding.shape[1]), np.float32)
    tensors["model.embed_tokens.weight"] = np.concatenate([embedding, more])
    save_file(tensors, folder / "model.safetensors")
    change(folder / "config.json", vocab_size=len(embedding) + len(more))
    with Model(folder) as model:
        found = model.logits([1, 5, 260, 270])
        assert found[:, : len(embedding)].tobytes() == expected
        last = len(embedding) + len(more) - 1
        story = model.generate("从", logit_bias={last: 100}, max_new_tokens=3, logprobs=1)
        assert story.read() == ""  # ids without a piece add nothing
        assert story.token_ids == [last] * 3
        assert [token.bytes for token in story.logprobs] == [b""] * 3


def test_pickles_are_left_to_pytorch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, tensors = logits(folder), read_tensors(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\3\4 no archive")
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "torch", None)
        words = r"a pickle, which only PyTorch is let to read: .*: pip install torch$"
        with pytest.raises(ImportError, match=words):
            Model(folder)
    torch = pytest.importorskip("torch", reason="reads pickles")
    with pytest.raises(CheckpointError, match="PyTorch refuses it as a file of tensors"):
        Model(folder)
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    torch.save(state, folder / "pytorch_model.bin")
    assert logits(folder) == expected
    assert logits(folder / "pytorch_model.bin") == expected

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "evil",))

    torch.save(state | {"x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="PyTorch refuses it"):
        Model(folder)
    assert not (folder / "evil").exists()


def test_a_vocabulary_is_rounded_up_by_a_little_only(folder: Path) -> None:
    """A tokenizer of far fewer pieces is that of another model."""
    from safetensors.numpy import save_file

    tensors = read_tensors(folder / "model.safetensors")
    embedding = tensors["model.embed_tokens.weight"]
    for more, fits in ((256, True), (257, False)):
        tensors["model.embed_tokens.weight"] = np.concatenate([embedding, embedding[:more]])
        save_file(tensors, folder / "model.safetensors")
        change(folder / "config.json", vocab_size=290 + more)
        if fits:
            Model(folder).close()
        else:
            with pytest.raises(TokenizerError, match=r"has 290 pieces, the .* vocabulary 547; "):
                Model(folder)


def test_a_tokenizer_of_another_size(folder: Path) -> None:
    shutil.copy(DATA / "zh.model", folder / "tokenizer.model")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match=r"has 640 pieces, the model's vocabulary 290"):
        Model(folder)
    (folder / "tokenizer.model").unlink()
    with pytest.raises(TokenizerError, match=r"no tokenizer\.model and no tokenizer\.json"):
        Model(folder)
    Model(folder, tokenizer=False).close()


# ---- refusing ------------------------------------------------------------------------------------

CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "mistral": ({"model_type": "mistral"}, "model_type 'mistral'"),
    "no type": ({"model_type": None}, "model_type None"),
    "classification": (
        {"architectures": ["LlamaForSequenceClassification"]},
        "LlamaForSequenceClassification",
    ),
    "two classes": (
        {"architectures": ["LlamaForCausalLM", "LlamaModel"]},
        "architecture 'LlamaModel'; this engine",
    ),
    "class is text": (
        {"architectures": "LlamaForCausalLM"},
        "architectures is 'LlamaForCausalLM': expected a list of names",
    ),
    "class is a number": ({"architectures": 3}, "architectures is 3: expected a list of names"),
    "huge eps": ({"rms_norm_eps": 10**400}, "rms_norm_eps is huge: expected a number"),
    "huge theta": ({"rope_theta": 10**400}, "rope_theta is huge: expected a number"),
    "huge theta inside": (
        {"rope_parameters": {"rope_theta": 10**400}},
        "rope_theta is huge: expected a number",
    ),
    "scaled": (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        "rope_scaling is of the type 'llama3'",
    ),
    "old scaling": ({"rope_scaling": {"type": "linear"}}, "'linear'"),
    "new scaling": ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters .* 'yarn'"),
    "a part of a head": ({"partial_rotary_factor": 0.5}, "rotating a part of each head"),
    "a part of a head, newer": (
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "partial_rotary_factor is 0.5: rotating a part of each head",
    ),
    "scaling is text": ({"rope_scaling": "yarn"}, "expected an object"),
    "bias": ({"attention_bias": True}, "attention_bias is True: biases in the attention"),
    "mlp bias": ({"mlp_bias": True}, "mlp_bias is True"),
    "gelu": ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    "mlx": ({"quantization": {"group_size": 64}}, "another program quantised"),
    "gptq": ({"quantization_config": {"quant_method": "gptq"}}, "another program quantised"),
    "head size": ({"head_dim": 16}, "head_dim is 16, and this engine needs"),
    "odd heads": ({"num_attention_heads": 5, "head_dim": None}, "5 heads share a width of 48"),
    "no layers": ({"num_hidden_layers": None}, "num_hidden_layers is None: expected a positive"),
    "negative": ({"hidden_size": -48}, "hidden_size is -48"),
    "text": ({"hidden_size": "48"}, "hidden_size is '48'"),
    "true": ({"hidden_size": True}, "hidden_size is True"),
    "huge": ({"num_hidden_layers": 2**30}, "holds no model.layers.2.input_layernorm.weight"),
    "other vocabulary": ({"vocab_size": 300}, r"embed_tokens.* \(290, 48\), and .* \(300, 48\)"),
    "fewer layers": ({"num_hidden_layers": 1}, r"holds model\.layers\.1\.\S+, which is not part"),
    "untied": ({"tie_word_embeddings": False}, r"holds no lm_head\.weight"),
    "eps": ({"rms_norm_eps": "tiny"}, "rms_norm_eps is 'tiny': expected a number"),
    "context": ({"max_position_embeddings": 2**30}, "seq_len is 1073741824"),
}


@pytest.mark.parametrize(("values", "words"), CONFIGS.values(), ids=CONFIGS)
def test_a_model_that_cannot_be_computed_is_named(
    folder: Path, values: dict[str, Any], words: str
) -> None:
    change(folder / "config.json", **values)
    with pytest.raises(CheckpointError, match=words):
        Model(folder)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def holds(*names: str) -> Callable[[Path], None]:
    def change_it(folder: Path) -> None:
        empty(folder)
        for name in names:
            (folder / name).write_bytes(b"{}")

    return change_it


def without_weights(*names: str) -> Callable[[Path], None]:
    def change_it(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        for name in names:
            (folder / name).write_bytes(b"{}")

    return change_it


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8") and None


def weights_named(*names: str) -> Callable[[Path], None]:
    """The weights under other names."""

    def change_it(folder: Path) -> None:
        for name in names:
            shutil.copy(folder / "model.safetensors", folder / name)
        (folder / "model.safetensors").unlink()

    return change_it


def without(*names: str) -> Callable[[Path], None]:
    def change_it(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change_it


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (empty, "a folder without config.json"),
    "adapter": (holds("adapter_config.json"), "a PEFT adapter, .*merge_and_unload"),
    "diffusers": (holds("model_index.json"), "makes pictures"),
    "tensorflow": (holds("saved_model.pb"), "a TensorFlow model"),
    "meta": (holds("params.json", "consolidated.00.pth"), "convert_llama_weights_to_hf"),
    "genai": (holds("genai_config.json", "model.onnx"), "an onnxruntime-genai model"),
    "ctranslate2": (
        holds("model.bin", "config.json"),
        "a CTranslate2 model",
    ),
    "files": (holds("a.bin", "b.gguf", "tokenizer.bin"), r"give one of its files: a\.bin, b\.gguf"),
    "no weights": (without_weights(), "download the whole folder again"),
    "no config": (
        without("config.json"),
        r"holds model\.safetensors and no config\.json, .*: download that too",
    ),
    "other name": (
        weights_named("model.fp16.safetensors"),
        r"it holds model\.fp16\.safetensors: rename it to model\.safetensors",
    ),
    "no index": (
        weights_named("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        r"model-00001-of-00002\.safetensors, a part .* model\.safetensors\.index\.json too",
    ),
    "flax": (without_weights("flax_model.msgpack"), "it holds flax_model.msgpack, Flax weights"),
    "gguf": (without_weights("x.gguf"), r"it holds x\.gguf"),
    "not json": (text("config.json", "{]}"), r"config\.json: not JSON \(.*\); download it again"),
    "page": (text("config.json", "<html>"), r"config\.json: not JSON but an HTML .*download the"),
    "a list": (text("config.json", "[]"), r"config\.json: holds no object"),
    "deep": (text("config.json", "[" * 100_000), r"config\.json: not JSON"),
    "huge defaults": (
        text("generation_config.json", f'{{"temperature": {10**400}}}'),
        r"generation_config\.json: temperature is 1000",
    ),
    "defaults": (
        text("generation_config.json", '{"top_p": 7}'),
        r"generation_config\.json: top_p is 7",
    ),
    "pointer": (
        text("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "a Git LFS pointer",
    ),
}


@pytest.mark.parametrize(("spoil", "words"), FOLDERS.values(), ids=FOLDERS)
def test_every_other_folder_is_told_what_it_is(
    folder: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(folder)
    with pytest.raises(CheckpointError, match=words) as raised:
        Model(folder)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("data", "words"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"],
)
def test_every_file_of_a_folder_is_called_what_it_is(
    folder: Path, name: str, data: bytes, words: str
) -> None:
    if name.endswith("index.json"):
        (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=words) as raised:
        Model(folder)
    assert str(raised.value).startswith(f"{folder / name}: not ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"", POINTER, KINDS["page"][0], b"{}"])
def test_a_pickle_that_is_none_needs_no_pytorch(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"not PyTorch's weights but (a|an|empty) "):
        Model(folder)


@pytest.mark.parametrize(("data", "words"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json"])
def test_a_folders_tokenizer_is_called_what_it_is(
    folder: Path, name: str, data: bytes, words: str
) -> None:
    if name == "tokenizer.json":
        pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    for other in ("tokenizer.model", "tokenizer.json"):
        (folder / other).unlink()
    (folder / name).write_bytes(data)
    with pytest.raises(TokenizerError, match=words) as raised:
        Model(folder)
    assert name in str(raised.value)
    Model(folder, tokenizer=False).close()


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "model.safetensors", "tokenizer.model"]
)
def test_pipes_in_a_folder(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(FileError, match=f"{name}: is a pipe"):
        Model(folder)


def test_weights_without_their_folder(folder: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "model.safetensors"
    shutil.copy(folder / "model.safetensors", lonely)
    with pytest.raises(CheckpointError, match=r"whose config\.json is not beside them"):
        Model(lonely)
    adapter = tmp_path / "adapter_model.safetensors"
    lonely.rename(adapter)
    with pytest.raises(CheckpointError, match="a safetensors file"):
        Model(adapter)
