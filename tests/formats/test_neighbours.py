"""transformers and llama.cpp compute with the files that tinyzh writes what tinyzh computes."""

from __future__ import annotations

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


# ---- llama.cpp -------------------------------------------------------------------------------------


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
    told = []
    for token in theirs.generate(ids, temp=0.0, repeat_penalty=1.0):
        told.append(token)
        if len(told) == 200:
            break
    story = ours.generate(start, temperature=0, max_new_tokens=200)
    text = story.read()
    assert len(story.token_ids) > 100
    assert told[: len(story.token_ids)] == story.token_ids
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
