"""transformers and llama.cpp compute with the files that tinyzh writes what tinyzh computes."""

from __future__ import annotations

import dataclasses
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import tinyzh
from tinyzh import Special
from tinyzh.formats.conversion import convert
from tinyzh.formats.huggingface_writer import write_folder
from tinyzh.formats.pieces import Pieces
from zoo import NAMES, SHAPES, Kept, get, prompts

TOLERANCE = 5e-5  # of the largest logit
LENGTH = 200  # tokens of a story, or as many as the context has room for
#: Whose stories are text; the others babble in bytes of no character, or say <unk>.
TRAINED = ("built-in", "stories260K")


def told_by(model: tinyzh.Model, start: str) -> tinyzh.Generation:
    """A greedy story that is as long as there is room."""
    length = min(LENGTH, model.config.seq_len - len(model.tokenizer.encode(start)))
    story = model.generate(start, temperature=0, max_new_tokens=length, min_new_tokens=length)
    story.read()
    assert len(story.token_ids) == length
    assert length > 100
    return story


def start_of(name: str) -> str:
    """How a story of one of NAMES begins."""
    return "Once upon a time" if name == "stories260K" else "从前"


@pytest.fixture(params=NAMES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    return get(request.param, tmp_path)


@pytest.fixture
def ours(kept: Kept) -> Iterator[tinyzh.Model]:
    with tinyzh.Model(kept.path, tokenizer=kept.tokenizer, dtype="float32") as model:
        yield model


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE, f"off by {error:.1e} of the largest logit"


def transformers_model(kept: Kept, folder: Path) -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    transformers = pytest.importorskip("transformers", reason="compares with it")
    pytest.importorskip("torch", reason="transformers needs it")
    convert(kept.path, folder, "hf", tokenizer=kept.tokenizer)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()


def test_transformers_has_the_same_logits(kept: Kept, ours: tinyzh.Model, tmp_path: Path) -> None:
    theirs = transformers_model(kept, tmp_path / "hf")
    import torch

    with tinyzh.Model(tmp_path / "hf") as read_again, torch.no_grad():
        for ids in prompts(ours.config.vocab_size, ours.config.seq_len):
            expected = ours.logits(ids)
            assert_close(theirs(torch.tensor([ids])).logits[0].numpy(), expected)
            assert read_again.logits(ids).tobytes() == expected.tobytes()


def test_transformers_tells_the_same_story(
    kept: Kept, ours: tinyzh.Model, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    theirs = transformers_model(kept, tmp_path / "hf")
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    name = request.node.callspec.params["kept"]
    start = start_of(name)
    inputs = tokenizer(start, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == ours.tokenizer.encode(start)
    story = told_by(ours, start)
    length = len(story.token_ids)
    with torch.no_grad():
        told = theirs.generate(
            **inputs, do_sample=False, max_new_tokens=length, min_new_tokens=length, top_p=None,
            temperature=None,
        )[0]  # fmt: skip
    assert told.tolist()[inputs["input_ids"].shape[1] :] == story.token_ids
    if name in TRAINED:
        assert tokenizer.decode(told, skip_special_tokens=True) == start + story.text


TEXTS = ["从前，有一只小兔子。", "小兔子 说：“你好！”", "天地abc 🐰 龘", " 两个  空格 "]
CUT = ["grouped queries", "built-in"]  # with a tokenizer.bin, with a tokenizer.model


@pytest.mark.parametrize("kept", CUT, indirect=True)
def test_all_cut_texts_alike(kept: Kept, ours: tinyzh.Model, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    convert(kept.path, tmp_path / "hf", "hf", tokenizer=kept.tokenizer)
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    with tinyzh.Model(tmp_path / "hf") as folder:
        for text in TEXTS:
            expected = ours.tokenizer.encode(text)
            assert folder.tokenizer.encode(text) == expected
            assert fast.encode(text).ids == expected


# ---- llama.cpp ---------------------------------------------------------------------------------


class LlamaCpp:
    """llama.cpp's server in this process, out of the wheel xllamacpp, which needs no compiler."""

    def __init__(self, path: Path, context: int) -> None:
        library = pytest.importorskip("xllamacpp", reason="compares with llama.cpp's server")
        options = library.CommonParams()
        options.model.path = str(path)
        options.n_ctx, options.n_parallel, options.n_gpu_layers = context, 1, 0
        options.cache_type_k = options.cache_type_v = library.ggml_type.GGML_TYPE_F32
        options.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
        options.warmup, options.verbosity = False, -1
        self._server = library.Server(options)

    def ask(self, what: str, **asked: Any) -> dict[str, Any]:
        """What ``/completion`` or ``/tokenize`` answers."""
        request = urllib.request.Request(
            f"{self._server.listening_address}/{what}",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=120) as answer:
            return dict(json.load(answer))

    def tokenize(self, text: str) -> list[int]:
        return list(self.ask("tokenize", content=text, add_special=True)["tokens"])

    def logprobs(self, ids: list[int], vocab_size: int) -> dict[int, float]:
        """Log-probabilities of the next token, by id.

        The one that it draws is made a character, since the server keeps half ones back.
        """
        answer = self.ask(
            "completion", prompt=ids, n_predict=1, n_probs=vocab_size, cache_prompt=False,
            temperature=0.0, logit_bias=[[vocab_size - 1, 1000.0]],
        )  # fmt: skip
        (position,) = answer["completion_probabilities"]
        found = {one["id"]: one["logprob"] for one in position["top_logprobs"]}
        return {i: value for i, value in found.items() if value > -80}  # below, exp gives 0

    def story(self, start: str, length: int) -> dict[str, Any]:
        """A greedy one that never ends by itself."""
        return self.ask(
            "completion", prompt=start, n_predict=length, temperature=0.0, return_tokens=True,
            ignore_eos=True, logit_bias=[[1, False], [2, False]], cache_prompt=False,
        )  # fmt: skip


@pytest.fixture
def llama_cpp(tmp_path: Path) -> Callable[..., LlamaCpp]:
    """``llama_cpp(kept, dtype)``: a model that tinyzh has written for it."""

    def opened(kept: Kept, dtype: str = "float32") -> LlamaCpp:
        pytest.importorskip("xllamacpp", reason="compares with llama.cpp's server")
        path = tmp_path / "model.gguf"
        convert(kept.path, path, "gguf", tokenizer=kept.tokenizer, dtype=dtype)
        with tinyzh.Model(path, tokenizer=False) as model:
            return LlamaCpp(path, model.config.seq_len)

    return opened


def difference(theirs: dict[int, float], logits: np.ndarray) -> float:
    """Of the log-probabilities of one position, over the largest logit."""
    ours = logits - np.logaddexp.reduce(logits)
    assert len(theirs) > 20
    return max(abs(value - ours[i]) for i, value in theirs.items()) / float(np.abs(logits).max())


def test_llama_cpp_has_the_same_probabilities(
    kept: Kept, ours: tinyzh.Model, llama_cpp: Callable[..., LlamaCpp], tmp_path: Path
) -> None:
    """Behind each of the prompts; a logarithm of a probability is a logit and the sum of all."""
    theirs = llama_cpp(kept)
    size = ours.config.vocab_size
    with tinyzh.Model(tmp_path / "model.gguf") as read_again:
        for ids in prompts(size, ours.config.seq_len - 1):  # it wants room behind a prompt
            expected = ours.logits(ids)
            assert read_again.logits(ids).tobytes() == expected.tobytes()
            assert difference(theirs.logprobs(ids, size), expected[-1]) < 2 * TOLERANCE


def test_llama_cpp_tells_the_same_story(
    kept: Kept,
    ours: tinyzh.Model,
    llama_cpp: Callable[..., LlamaCpp],
    request: pytest.FixtureRequest,
) -> None:
    """From a text, which each of both cuts itself."""
    name = request.node.callspec.params["kept"]
    start = start_of(name)
    story = told_by(ours, start)
    told = llama_cpp(kept).story(start, len(story.token_ids))
    assert told["tokens"] == story.token_ids
    if name in TRAINED:
        assert told["content"] == story.text


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_llama_cpp_reads_rounded_weights(
    kept: Kept, llama_cpp: Callable[..., LlamaCpp], tmp_path: Path, dtype: str
) -> None:
    """What both read from one file; llama.cpp rounds activations too, to other groups."""
    theirs = llama_cpp(kept, dtype)
    with tinyzh.Model(tmp_path / "model.gguf") as read_again:
        size = read_again.config.vocab_size
        for ids in prompts(size, read_again.config.seq_len - 1, 5):
            assert difference(theirs.logprobs(ids, size), read_again.logits(ids)[-1]) < 0.1


@pytest.mark.parametrize("kept", CUT, indirect=True)
def test_llama_cpp_cuts_texts_alike(
    kept: Kept, ours: tinyzh.Model, llama_cpp: Callable[..., LlamaCpp], tmp_path: Path
) -> None:
    theirs = llama_cpp(kept)
    with tinyzh.Model(tmp_path / "model.gguf") as file:
        for text in TEXTS:
            expected = ours.tokenizer.encode(text)
            assert file.tokenizer.encode(text) == expected
            assert theirs.tokenize(text) == expected


SPECIALS = [Special.of(5, 6, 7), Special.of(1, 2, add_bos=False)]


@pytest.mark.parametrize("special", SPECIALS, ids=["another", "none"])
def test_all_begin_texts_alike(tmp_path: Path, special: Special) -> None:
    """In a vocabulary that was rounded up, moreover."""
    for module in ("gguf", "google.protobuf", "xllamacpp", "transformers"):
        pytest.importorskip(module, reason="writes files, and compares with other programs")
    kept = get("grouped queries", tmp_path)
    shape = dataclasses.replace(SHAPES["grouped queries"], vocab_size=320)
    checkpoints.save(tmp_path / "r.bin", checkpoints.v0(shape, checkpoints.random_tensors(shape)))
    pieces = Pieces.of(tinyzh.BinTokenizer(kept.tokenizer))
    with tinyzh.Model(tmp_path / "r.bin", tokenizer=False) as model:
        config, weights = model.config, model.weights
        write_folder(tmp_path / "hf", config, weights, pieces, special=special)
    convert(tmp_path / "hf", tmp_path / "m.gguf", "gguf")
    with tinyzh.Model(tmp_path / "hf") as folder, tinyzh.Model(tmp_path / "m.gguf") as file:
        expected = folder.tokenizer.encode("从前abc")
        assert (expected[0] == 5) is special.add_bos
        assert file.tokenizer.encode("从前abc") == expected
        theirs = LlamaCpp(tmp_path / "m.gguf", 256)
        assert theirs.tokenize("从前abc") == expected
        assert difference(theirs.logprobs(expected, 320), file.logits(expected)[-1]) < TOLERANCE
        os.environ["HF_HUB_OFFLINE"] = "1"
        import transformers

        fast = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
        assert fast("从前abc")["input_ids"] == expected
