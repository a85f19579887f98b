"""transformers and llama.cpp compute with the files that tinyzh writes what tinyzh computes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tinyzh
from tinyzh.formats.conversion import convert
from zoo import NAMES, Kept, get, prompts

TOLERANCE = 5e-5  # of the largest logit
STORIES = ["built-in", "stories260K"]
STARTS = {"built-in": "从前", "stories260K": "Once upon a time"}


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


@pytest.mark.parametrize("kept", STORIES, indirect=True)
def test_transformers_tells_the_same_story(
    kept: Kept, ours: tinyzh.Model, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    theirs = transformers_model(kept, tmp_path / "hf")
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    start = STARTS[request.node.callspec.params["kept"]]
    inputs = tokenizer(start, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == ours.tokenizer.encode(start)
    with torch.no_grad():
        told = theirs.generate(
            **inputs, do_sample=False, max_new_tokens=200, min_new_tokens=200, top_p=None,
            temperature=None,
        )[0]  # fmt: skip
    story = ours.generate(start, temperature=0, max_new_tokens=200, min_new_tokens=200)
    text = story.read()
    assert told.tolist()[inputs["input_ids"].shape[1] :] == story.token_ids
    assert len(story.token_ids) == 200
    whole = tokenizer.decode(told, skip_special_tokens=True)
    assert whole == start + text


# ---- llama.cpp ---------------------------------------------------------------------------------


def llama_cpp_model(kept: Kept, path: Path, dtype: str = "float32") -> Any:
    """llama-cpp-python's, with keys and values in F32; it is built from source, so seldom here."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="compares with llama-cpp-python")
    convert(kept.path, path, "gguf", tokenizer=kept.tokenizer, dtype=dtype)
    return llama_cpp.Llama(
        str(path), n_ctx=0, logits_all=True, type_k=0, type_v=0, n_threads=1, verbose=False
    )


def test_llama_cpp_has_the_same_logits(kept: Kept, ours: tinyzh.Model, tmp_path: Path) -> None:
    theirs = llama_cpp_model(kept, tmp_path / "model.gguf")
    with tinyzh.Model(tmp_path / "model.gguf") as read_again:
        for ids in prompts(ours.config.vocab_size, ours.config.seq_len):
            theirs.reset()
            theirs.eval(ids)
            expected = ours.logits(ids)
            assert_close(theirs.scores[: len(ids)], expected)
            assert read_again.logits(ids).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kept", STORIES, indirect=True)
def test_llama_cpp_tells_the_same_story(
    kept: Kept, ours: tinyzh.Model, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    theirs = llama_cpp_model(kept, tmp_path / "model.gguf")
    start = STARTS[request.node.callspec.params["kept"]]
    ids = theirs.tokenize(start.encode())
    assert ids == ours.tokenizer.encode(start)
    import llama_cpp

    def without_end(_: Any, logits: np.ndarray) -> np.ndarray:
        logits[[1, 2]] = -np.inf
        return logits

    processors = llama_cpp.LogitsProcessorList([without_end])
    tokens = theirs.generate(ids, temp=0.0, repeat_penalty=1.0, logits_processor=processors)
    told = list(itertools.islice(tokens, 200))
    story = ours.generate(start, temperature=0, max_new_tokens=200, min_new_tokens=200)
    text = story.read()
    assert len(told) == 200
    assert told == story.token_ids
    whole = theirs.detokenize(ids + story.token_ids).decode("utf-8", "replace")
    assert whole.removeprefix(" ") == start + text


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_llama_cpp_reads_rounded_weights(kept: Kept, tmp_path: Path, dtype: str) -> None:
    """What both read from one file; llama.cpp rounds activations too, to other groups."""
    theirs = llama_cpp_model(kept, tmp_path / "model.gguf", dtype)
    with tinyzh.Model(tmp_path / "model.gguf") as read_again:
        for ids in prompts(read_again.config.vocab_size, read_again.config.seq_len, 5):
            theirs.reset()
            theirs.eval(ids)
            expected = read_again.logits(ids)
            error = np.abs(theirs.scores[: len(ids)] - expected).max() / np.abs(expected).max()
            assert error < 0.1


# Not those whose stories are bytes of no character: the server keeps such tokens back.
@pytest.mark.parametrize(
    "kept", ["grouped queries", "hidden 2268", "built-in", "stories260K"], indirect=True
)
def test_llama_cpp_of_a_wheel(kept: Kept, ours: tinyzh.Model, tmp_path: Path) -> None:
    """The same engine from xllamacpp, which needs no compiler: a greedy story, and the
    log-probabilities of all tokens at each of its positions."""
    library = pytest.importorskip("xllamacpp", reason="compares with llama.cpp's server")
    convert(kept.path, tmp_path / "model.gguf", "gguf", tokenizer=kept.tokenizer)
    options = library.CommonParams()
    options.model.path = str(tmp_path / "model.gguf")
    options.n_ctx, options.n_parallel, options.n_gpu_layers = ours.config.seq_len, 1, 0
    options.cache_type_k = options.cache_type_v = library.ggml_type.GGML_TYPE_F32
    options.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    options.warmup, options.verbosity = False, -1
    start = [1, 300, 301] if ours.config.vocab_size > 400 else [1, 262, 263]
    story = ours.generate(start, temperature=0, max_new_tokens=200)
    story.read()
    logits = ours.logits([*start, *story.token_ids][: ours.config.seq_len])[len(start) - 1 :]
    expected = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

    asked = {
        "prompt": start,
        "n_predict": len(story.token_ids),
        "temperature": 0.0,
        "n_probs": ours.config.vocab_size,
        "cache_prompt": False,
    }
    told = library.Server(options).handle_completions(asked)
    positions = told["choices"][0]["logprobs"]["content"]
    assert [position["id"] for position in positions] == story.token_ids
    assert len(story.token_ids) >= 100
    largest = np.abs(logits).max()
    for position, ours_here in zip(positions, expected, strict=False):
        found = {one["id"]: one["logprob"] for one in position["top_logprobs"]}
        assert len(found) > 100
        likely = {i: value for i, value in found.items() if value > -80}  # below, exp gives 0
        difference = max(abs(value - ours_here[i]) for i, value in likely.items())
        assert difference < 2 * TOLERANCE * largest


TEXTS = ["从前，有一只小兔子。", "小兔子 说：“你好！”", "天地abc 🐰 龘", " 两个  空格 "]


@pytest.mark.parametrize("kept", ["grouped queries", "built-in"], indirect=True)
def test_all_cut_texts_alike(kept: Kept, ours: tinyzh.Model, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="reads tokenizer.json")
    convert(kept.path, tmp_path / "hf", "hf", tokenizer=kept.tokenizer)
    fast = tokenizers.Tokenizer.from_file(str(tmp_path / "hf" / "tokenizer.json"))
    with tinyzh.Model(tmp_path / "hf") as folder:
        for text in TEXTS:
            expected = ours.tokenizer.encode(text)
            assert folder.tokenizer.encode(text) == expected
            assert fast.encode(text).ids == expected


@pytest.mark.parametrize("kept", ["grouped queries", "built-in"], indirect=True)
def test_llama_cpp_cuts_texts_alike(kept: Kept, ours: tinyzh.Model, tmp_path: Path) -> None:
    theirs = llama_cpp_model(kept, tmp_path / "model.gguf")
    with tinyzh.Model(tmp_path / "model.gguf") as file:
        for text in TEXTS:
            expected = ours.tokenizer.encode(text)
            assert file.tokenizer.encode(text) == expected
            assert theirs.tokenize(text.encode()) == expected
