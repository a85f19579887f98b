"""Opening models and tokenizers, scores, logits, and what a model says of itself."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import reference
import tinyzh
from checkpoints import Shape
from small_models import CHARACTERS, TINY, char_ids
from tinyzh import (
    BackendError,
    CheckpointError,
    Config,
    ContextFull,
    FileError,
    FileMissing,
    InvalidArgument,
    Model,
    TinyzhError,
    TokenizerError,
)

DATA = Path(__file__).with_name("data")

# ---- score --------------------------------------------------------------------------------------


def reference_logprobs(ids: Sequence[int]) -> np.ndarray:
    """Of each token after the first, by the NumPy model with the weights of ``tiny``."""
    logits, _ = reference.forward(checkpoints.random_tensors(TINY, 7), TINY, ids)
    rows: np.ndarray = reference.log_softmax(logits)
    return rows[np.arange(len(ids) - 1), list(ids[1:])]


def test_score(tiny: Model) -> None:
    text = "从前，有一只小兔子！"
    score = tiny.score(text)
    ids = tiny.tokenizer.encode(text)
    expected = reference_logprobs(ids)
    assert score.token_ids == ids[1:]
    assert score.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
    assert score.total == pytest.approx(math.fsum(score.logprobs))
    assert score.perplexity == pytest.approx(math.exp(-expected.mean()), rel=1e-4)
    bits = -expected.sum() / math.log(2)
    assert score.bits_per_character == pytest.approx(bits / len(text), rel=1e-4)


def test_a_character_of_many_tokens_is_one_character(tiny: Model) -> None:
    score = tiny.score("😀")  # four byte tokens, and the dummy prefix
    assert len(score.token_ids) == 5
    assert score.bits_per_character == pytest.approx(-score.total / math.log(2))


def test_a_long_text_is_scored_in_windows_that_overlap_by_half(tiny: Model) -> None:
    text = CHARACTERS.strip() * 12
    ids = tiny.tokenizer.encode(text)
    context, half = TINY.seq_len, TINY.seq_len // 2
    assert len(ids) > 2.5 * context
    expected = reference_logprobs(ids[:context]).tolist()
    while len(expected) < len(ids) - 1:
        start = len(expected) + 1 - half
        window = ids[start : start + context]
        expected += reference_logprobs(window)[half - 1 :].tolist()
    score = tiny.score(text)
    assert score.token_ids == ids[1:]
    assert score.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("context", [2, 3, 4, 5])
def test_windows_of_a_tiny_context(tiny: Model, context: int) -> None:
    shape = Shape(8, 8, 1, 1, 1, TINY.vocab_size, context)
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape))
    with Model(data, tokenizer=tiny.tokenizer) as model:
        score = model.score("从前有一只小兔子")
        assert len(score.logprobs) == len(score.token_ids) == 9


def test_a_context_of_one_cannot_score(tiny: Model) -> None:
    shape = Shape(8, 8, 1, 1, 1, TINY.vocab_size, 1)
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape))
    with (
        Model(data, tokenizer=tiny.tokenizer) as model,
        pytest.raises(ContextFull, match="context is 1"),
    ):
        model.score("从前")


@pytest.mark.parametrize(("text", "message"), [("", "has no tokens"), ([1, 2], "expected a str")])
def test_what_cannot_be_scored(tiny: Model, text: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        tiny.score(text)


def test_the_built_in_model_prefers_chinese() -> None:
    with tinyzh.Model() as model:
        likely = model.score("从前，有一只小兔子住在森林里。").bits_per_character
        unlikely = model.score("里林森在住子兔小只一有，前从。").bits_per_character
        assert likely < 6 < unlikely


# ---- logits -------------------------------------------------------------------------------------


def test_logits(tiny: Model) -> None:
    logits = tiny.logits([1, 270, 271])
    assert logits.shape == (3, TINY.vocab_size)
    assert logits.dtype == np.float32
    assert logits.flags.c_contiguous
    assert logits.flags.owndata
    expected, _ = reference.forward(checkpoints.random_tensors(TINY, 7), TINY, [1, 270, 271])
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert tiny.logits(np.array([1, 270, 271])).tobytes() == logits.tobytes()
    assert tiny.logits([]).shape == (0, TINY.vocab_size)


@pytest.mark.parametrize("ids", ["从前", b"ab", 5, [1.0], [None]])
def test_logits_of_what_is_no_list_of_ids(tiny: Model, ids: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected a list of token ids"):
        tiny.logits(ids)


@pytest.mark.parametrize("token", [-1, TINY.vocab_size, 2**70])
def test_logits_of_a_wrong_id(tiny: Model, token: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"token 2 of ids is {token}: expected an id from 0"):
        tiny.logits([1, 2, token])


def test_logits_of_too_many_tokens(tiny: Model) -> None:
    with pytest.raises(ContextFull, match=r"129 tokens .* context of 128"):
        tiny.logits([1] * 129)
    with pytest.raises(ContextFull):
        tiny.logits([1] * 10**6)  # an error, not the memory for its result


# ---- what it says of itself ---------------------------------------------------------------------


def test_config_and_repr(tiny: Model, tiny_path: Path) -> None:
    assert tiny.config == Config(32, 61, 2, 4, 2, TINY.vocab_size, 128, tied=False)
    assert (tiny.config.head_size, tiny.config.kv_dim) == (8, 16)
    assert (tiny.config.norm_eps, tiny.config.rope_theta) == (1e-5, 10000.0)
    text = repr(tiny)
    for part in ("model.bin", "float32", "dim 32", "2 layers", "4 heads", "context 128", tiny.isa):
        assert part in text
    with Model(tiny_path.read_bytes(), tokenizer=False, dtype="int8", threads=1) as other:
        assert "from bytes" in repr(other)
        assert (other.dtype, other.threads) == ("int8", 1)
        assert "int8" in repr(other)


def test_memory(tiny: Model, tiny_path: Path) -> None:
    memory = tiny.memory()
    assert memory["file"] == tiny_path.stat().st_size
    assert memory["weights"] == 0
    assert memory["kv_cache_per_position"] == 2 * 2 * 16 * 4
    assert 0 < memory["read_per_token"] < memory["file"]


def test_the_built_in_model() -> None:
    with tinyzh.Model() as model:
        assert "story.bin" in repr(model)
        text = model.generate("从前", seed=1, max_new_tokens=40).read()
        assert text
        assert "\ufffd" not in text


# ---- arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [0, -1, 257, 1.0, True, "2"])
def test_wrong_threads(tiny_path: Path, threads: Any) -> None:
    with pytest.raises(InvalidArgument, match=rf"threads is {threads!r}: .*from 1 to 256"):
        Model(tiny_path, threads=threads)


@pytest.mark.parametrize("dtype", ["int3", "fp16", ""])
def test_a_wrong_dtype(tiny_path: Path, dtype: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"dtype is '{dtype}': .*auto, float32"):
        Model(tiny_path, dtype=dtype)


def test_a_wrong_device(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tinyzh._core, "devices", lambda: ["cpu"])
    with pytest.raises(BackendError, match=r"device is 'cuda': .*cpu"):
        Model(tiny_path, device="cuda")


def test_paths_of_every_kind(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_path.parent)
    for path in (tiny_path, str(tiny_path), "model.bin"):
        with Model(path) as model:
            assert model.tokenizer.path.name == "tokenizer.bin"


def test_a_name_that_is_no_utf8(tiny_path: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe4"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    shutil.copy(tiny_path, folder / "从前.bin")
    shutil.copy(tiny_path.with_name("tokenizer.bin"), folder)
    with Model(folder / "从前.bin") as model:
        assert model.generate("从前", seed=1, max_new_tokens=3).wait()
    (folder / "bad.bin").write_bytes(b"bad")
    with pytest.raises(CheckpointError, match=r"\\xff.*bad\.bin"):
        Model(folder / "bad.bin")


# ---- files that are no models -------------------------------------------------------------------


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", b"x" * 100)
    return out.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 374000000\n"
FOREIGN = {
    "html": (b"<!DOCTYPE html>\n<html><body>404</body></html>", ["HTML", "download"]),
    "lfs": (LFS, ["Git LFS pointer", "git lfs pull"]),
    "gguf": (b"GGUF" + (3).to_bytes(4, "little") + bytes(100), ["GGUF"]),
    "safetensors": (safetensors(), ["safetensors"]),
    "zip": (zipped(), ["zip archive"]),
    "empty": (b"", ["empty", "download"]),
    "zeros": (bytes(4096), ["zero bytes"]),
    "noise": (np.random.default_rng(0).bytes(5000), ["not a llama2.c checkpoint"]),
    "short": (b"\x01\x02", ["2 bytes"]),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_files(tmp_path: Path, kind: str) -> None:
    if kind == "gguf":
        pytest.importorskip("gguf", reason="reads GGUF; pip install 'tinyzh[gguf]'")
    data, words = FOREIGN[kind]
    if kind == "gguf":
        pytest.importorskip("gguf", reason="reads GGUF, also to say what is wrong with one")
    path = checkpoints.save(tmp_path / "model.bin", data)
    with pytest.raises(CheckpointError) as raised:
        Model(path, tokenizer=False)
    for word in (*words, str(path)):
        assert word in str(raised.value)
    with pytest.raises(ValueError, match="the bytes given"):
        Model(data, tokenizer=False)


def test_a_tokenizer_for_a_model(tiny_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a tokenizer; give the model's"):
        Model(tiny_path.with_name("tokenizer.bin"))


@pytest.mark.parametrize("cut", [27, 100, -1])
def test_a_file_cut_short(tiny_path: Path, tmp_path: Path, cut: int) -> None:
    data = tiny_path.read_bytes()
    path = checkpoints.save(tmp_path / "cut.bin", data[:cut])
    message = r"header alone has 28" if cut == 27 else rf"{len(data[:cut])} bytes .* {len(data)}"
    with pytest.raises(CheckpointError, match=message):
        Model(path)


def test_a_file_that_grew(tiny_path: Path) -> None:
    with pytest.raises(CheckpointError, match="3 bytes too many"):
        Model(tiny_path.read_bytes() + b"abc", tokenizer=False)


def test_a_file_cut_short_while_it_is_open(tiny_path: Path, tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "model.bin", tiny_path.read_bytes())
    with Model(path, tokenizer=False) as model:
        before = model.logits([1]).tobytes()
        os.truncate(path, 1000)
        message = r"model\.bin: the file became shorter than the \d+ bytes .* open it again"
        with pytest.raises(CheckpointError, match=message):
            model.logits([1])
        story = model.generate([1])
        with pytest.raises(CheckpointError, match=message):
            story.read()
        assert story.finish_reason == "error"
        path.write_bytes(tiny_path.read_bytes())
        assert model.logits([1]).tobytes() == before


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nothing.bin", FileMissing, "nothing.bin: no such file"),
        ("folder", CheckpointError, "folder: a folder without config.json"),
        ("folder/nothing.bin", FileMissing, "no such file"),
    ],
)
def test_no_file(tmp_path: Path, name: str, error: type[TinyzhError], message: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(error, match=message):
        Model(tmp_path / name)


def test_errors_are_those_that_python_knows() -> None:
    for error, base in {
        tinyzh.CheckpointError: ValueError,
        tinyzh.TokenizerError: ValueError,
        tinyzh.InvalidArgument: ValueError,
        tinyzh.GenerationError: RuntimeError,
        tinyzh.ContextFull: tinyzh.GenerationError,
        tinyzh.QueueFull: tinyzh.GenerationError,
        tinyzh.BackendError: RuntimeError,
        tinyzh.FileError: OSError,
        tinyzh.FileMissing: FileNotFoundError,
    }.items():
        assert issubclass(error, base)
        assert issubclass(error, TinyzhError)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(tiny_path: Path, tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path / "model.bin", tiny_path.read_bytes())
    path.chmod(0)
    with pytest.raises(FileError, match="Permission denied"):
        Model(path)


# ---- which tokenizer ----------------------------------------------------------------------------

V = 640  # pieces of tests/data/zh.model and zh.bin


@pytest.fixture
def untold(tmp_path: Path) -> Path:
    """A checkpoint with a vocabulary of 640 and nothing beside it."""
    shape = Shape(8, 8, 1, 1, 1, V, 16)
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape))
    return checkpoints.save(tmp_path / "fox.bin", data)


def test_the_order_of_looking(untold: Path) -> None:
    """Each one is found once those before it are gone."""
    names = ["fox.tokenizer.model", "fox.tokenizer.bin", "fox.model", "tokenizer.model"]
    names += ["tokenizer.bin", "tok640.model", "tok640.bin"]
    for name in names:
        shutil.copy(DATA / f"zh{Path(name).suffix}", untold.with_name(name))
    for name in names:
        with Model(untold) as model:
            assert model.tokenizer.path == untold.with_name(name)
            assert model.tokenizer.vocab_size == V
        untold.with_name(name).unlink()
    with pytest.raises(TokenizerError) as raised:
        Model(untold)
    for name in names:
        assert f"{name} (not there)" in str(raised.value)


def test_those_that_do_not_fit_are_passed_over(untold: Path, tiny_path: Path) -> None:
    shutil.copy(tiny_path.with_name("tokenizer.bin"), untold.with_name("tokenizer.bin"))
    untold.with_name("tokenizer.model").write_bytes(b"\nno such thing")
    with pytest.raises(TokenizerError) as raised:
        Model(untold)
    message = str(raised.value)
    assert f"no tokenizer with {V} pieces beside {untold}" in message
    assert f"tokenizer.bin ({TINY.vocab_size} pieces)" in message
    assert "not a SentencePiece model" in message
    assert "pass tokenizer=" in message
    shutil.copy(DATA / "zh.bin", untold.with_name("tok640.bin"))
    with Model(untold) as model:
        assert model.tokenizer.path.name == "tok640.bin"


def test_a_tokenizer_by_name(untold: Path, tiny: Model) -> None:
    for given in (DATA / "zh.bin", str(DATA / "zh.model"), tinyzh.BinTokenizer(DATA / "zh.bin")):
        with Model(untold, tokenizer=given) as model:
            assert model.tokenizer.vocab_size == V
            assert model.generate("从前", seed=1, max_new_tokens=3).wait()
    for wrong in (tiny.tokenizer, tiny.tokenizer.path):
        with pytest.raises(TokenizerError, match=rf"{TINY.vocab_size} pieces, .*vocabulary {V}"):
            Model(untold, tokenizer=wrong)
    with pytest.raises(FileMissing, match=r"nothing\.model: no such file"):
        Model(untold, tokenizer="nothing.model")


def test_a_model_of_bytes_wants_to_be_told(tiny_path: Path) -> None:
    data = tiny_path.read_bytes()
    with pytest.raises(TokenizerError, match="pass tokenizer="):
        Model(data)
    with Model(data, tokenizer=tiny_path.with_name("tokenizer.bin")) as model:
        assert model.tokenizer.encode("从前") == [1, *char_ids(" 从前")]


def test_both_kinds_of_tokenizer_tell_the_same_story(untold: Path) -> None:
    told = []
    for name in ("zh.bin", "zh.model"):
        with Model(untold, tokenizer=DATA / name) as model:
            ids = model.tokenizer.encode("从前，有一只小兔子。")
            story = model.generate("从前", seed=9, temperature=3, logprobs=0)
            story.wait()
            text, pieces = story.text, [entry.bytes for entry in story.logprobs]
            known = model.tokenizer.pieces[1:]  # the unknown piece has a text of its own in each
            told.append((ids, story.token_ids, text, pieces, known))
    assert told[0] == told[1]


@pytest.mark.parametrize("use", ["encode", "decode"])
def test_tokenizers_take_anything(tiny: Model, use: str) -> None:
    if use == "encode":
        assert tiny.tokenizer.encode("\ud800")[0] == 1  # a lone surrogate
    else:
        decode: Callable[[list[int]], str] = tiny.tokenizer.decode
        assert decode([1, *tiny.tokenizer.encode("从前😀", bos=False), 2]) == "从前😀"
        with pytest.raises(InvalidArgument, match="290"):
            decode([290])


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda: tinyzh.Model(3), "path is 3"),
        (lambda: tinyzh.Model(dtype=None), "dtype is None"),
        (lambda: tinyzh.Model(tokenizer=True), "tokenizer is True"),
        (lambda: tinyzh.Model(tokenizer=3), "tokenizer is 3"),
        (lambda: tinyzh.Model().generate("a", params={"top_k": 1}), "expected a SamplingParams"),
        (lambda: tinyzh.Model().generate("a", stop=["\ud800"]), "half a surrogate pair"),
        (lambda: tinyzh.Model().generate("a", logit_bias={9999: 1}), "of logit_bias is 9999"),
        (lambda: tinyzh.Model().generate_many(3), "prompts is 3"),
        (lambda: tinyzh.Model().tokenizer.encode(3), "text is 3"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(use: Callable[[], object], says: str) -> None:
    with pytest.raises(tinyzh.InvalidArgument, match=says):
        use()
