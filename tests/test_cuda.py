"""device="cuda" tells what the CPU tells, bit for bit, on a GPU or the emulated one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import checkpoints
import numpy as np
import pytest
from checkpoints import Shape
from tinyzh import BackendError, InvalidArgument, Model, _core
from tinyzh.cli import main

pytestmark = pytest.mark.skipif(
    "cuda" not in _core.devices(), reason="built without CUDA: TINYZH_CUDA=ON or emulated"
)

SHAPE = Shape(48, 43, 2, 4, 2, 60, 64, tied=False)
IDS = [1, 5, 59, 33, 7, 7, 20, 41, 3, 9, 11, 12, 50, 31, 2, 8, 19, 27]


@pytest.fixture(scope="module")
def data() -> bytes:
    return checkpoints.v0(SHAPE, checkpoints.random_tensors(SHAPE, seed=4))


@pytest.fixture(params=["float32", "int8", "int4"])
def pair(request: pytest.FixtureRequest, data: bytes) -> Iterator[tuple[Model, Model]]:
    """The same model on the CPU and on the GPU."""
    with (
        Model(data, tokenizer=False, dtype=request.param) as cpu,
        Model(data, tokenizer=False, dtype=request.param, device="cuda") as gpu,
    ):
        assert (cpu.device, gpu.device) == ("cpu", "cuda")
        assert cpu.kv_dtype == gpu.kv_dtype
        yield cpu, gpu


def test_logits_and_every_intermediate(pair: tuple[Model, Model]) -> None:
    cpu, gpu = pair
    assert gpu.logits(IDS).tobytes() == cpu.logits(IDS).tobytes()
    here, there = cpu.trace(IDS), gpu.trace(IDS)
    assert list(here) == list(there)
    for name in here:
        assert here[name].tobytes() == there[name].tobytes(), name


def test_one_seed_tells_one_story(pair: tuple[Model, Model]) -> None:
    cpu, gpu = pair
    for seed, temperature in ((1, 0.9), (3, 0.0)):
        told = []
        for model in (cpu, gpu):
            story = model.generate([1, 5, 9], seed=seed, temperature=temperature, max_new_tokens=24)
            story.wait()
            told.append(story.token_ids)
            assert (story.stats.logits_hash == 0) == (model is gpu)  # the logits stay there
        assert told[0] == told[1]
        assert told[0]


def test_what_needs_the_host(pair: tuple[Model, Model]) -> None:
    """Log-probabilities, biases and bad words: with others that do not, in the same passes."""
    cpu, gpu = pair
    many: list[dict[str, Any]] = [
        {"logprobs": 2},
        {},
        {"logit_bias": {7: 5.0}},
        {"top_k": 5},
        {"min_new_tokens": 20},
    ]
    told = []
    for model in (cpu, gpu):
        stories = [
            model.generate([1, 5, 9, i], seed=3 + i, temperature=1.5, max_new_tokens=24, **options)
            for i, options in enumerate(many)
        ]
        for story in stories:
            story.wait()
        told.append([(s.token_ids, s.finish_reason, s.logprobs) for s in stories])
        assert stories[0].stats.logits_hash != 0
    assert told[0] == told[1]


def test_many_at_once_are_what_each_is_alone(pair: tuple[Model, Model]) -> None:
    cpu, gpu = pair
    prompts = [[1, 5, 9], [1, 5, 9, 20, 21, 22], [1], [1, 5, 9, 20, 40]]
    many = [story.token_ids for story in gpu.generate_many(prompts, seed=5, max_new_tokens=30)]
    alone = [story.token_ids for story in cpu.generate_many(prompts, seed=5, max_new_tokens=30)]
    assert many == alone


def test_more_streams_than_on_the_cpu(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="streams is 1025: expected 1 to 1024 on device cuda"):
        Model(data, tokenizer=False, device="cuda", streams=1025)
    prompts = [[1, i % 50 + 3] for i in range(300)]
    told = []
    for device, streams in (("cpu", 8), ("cuda", 300)):
        with Model(data, tokenizer=False, device=device, streams=streams) as model:
            stories = model.generate_many(prompts, max_new_tokens=2, seed=3)
            told.append([story.token_ids for story in stories])
    assert told[0] == told[1]


def test_common_beginnings_and_pages_that_are_copied(pair: tuple[Model, Model]) -> None:
    """A second text that leaves the first one in the middle of a page gets a copy of it."""
    cpu, gpu = pair
    for model in (cpu, gpu):
        model.generate([*IDS, 44, 45], temperature=0, max_new_tokens=4).wait()
    other = [*IDS, 44, 46]
    stories = [model.generate(other, temperature=0, max_new_tokens=12) for model in (cpu, gpu)]
    for story in stories:
        story.wait()
    assert stories[0].token_ids == stories[1].token_ids
    assert gpu.stats().reused_tokens == cpu.stats().reused_tokens > 16


def test_scores_and_the_context_shifts(pair: tuple[Model, Model]) -> None:
    cpu, gpu = pair
    long = [
        model.generate([1, 5], seed=1, overflow="shift", max_new_tokens=100, min_new_tokens=100)
        for model in (cpu, gpu)
    ]
    for story in long:
        story.wait()
    assert long[0].token_ids == long[1].token_ids
    assert len(long[0].token_ids) == 100


def test_the_builtin_model() -> None:
    """int8 in groups of the file, which straddle rows."""
    with Model() as cpu, Model(device="cuda") as gpu:
        told = [m.generate("从前", seed=1, max_new_tokens=3).read() for m in (cpu, gpu)]
        assert told[0] == told[1]
        assert told[0]


@pytest.mark.parametrize("kv_dtype", ["float16", "int8"])
def test_small_caches(data: bytes, kv_dtype: str) -> None:
    for dtype in ("float32", "int4"):
        with (
            Model(data, tokenizer=False, dtype=dtype, kv_dtype=kv_dtype) as cpu,
            Model(data, tokenizer=False, dtype=dtype, kv_dtype=kv_dtype, device="cuda") as gpu,
        ):
            assert gpu.kv_dtype == kv_dtype
            assert gpu.logits(IDS).tobytes() == cpu.logits(IDS).tobytes()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("bfloat16", 2e-2)])
def test_sixteen_bits(dtype: str, tolerance: float) -> None:
    """Near the CPU, with greedy stories equal up to a near-tie."""
    with Model(dtype="float32") as cpu, Model(dtype=dtype, device="cuda") as gpu:
        assert (gpu.dtype, gpu.kv_dtype) == (dtype, "float16")
        ids = cpu.tokenizer.encode("从前，有一只小兔子")
        expected, found = cpu.logits(ids), gpu.logits(ids)
        assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
        assert not np.array_equal(found, expected)
        told = []
        for model in (cpu, gpu):
            story = model.generate("从前", temperature=0, max_new_tokens=12)
            story.wait()
            told.append(story.token_ids)
        differs = next((i for i in range(12) if told[0][i] != told[1][i]), None)
        if differs is not None:  # the two best are as near as the tolerance
            last = cpu.logits(cpu.tokenizer.encode("从前") + told[0][:differs])[-1]
            best, second = np.sort(last)[:-3:-1]
            assert best - second <= 2 * tolerance * np.abs(last).max()


def test_sixteen_bits_on_the_cpu(data: bytes) -> None:
    for dtype in ("float16", "bfloat16"):
        with pytest.raises(BackendError, match=f"dtype is {dtype}, which device cuda has"):
            Model(data, tokenizer=False, dtype=dtype)


def test_the_doctor_says_what_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINYZH_DEVICE", "cuda")
    monkeypatch.setenv("TINYZH_AHEAD", "1")
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"built in: {_core.cuda_build()}" in text
    assert "cuda, int8 (keys and values float16)" in text
    assert "1 passes ahead, graphs" in text
    monkeypatch.setenv("TINYZH_AHEAD", "nine")
    with pytest.raises(InvalidArgument, match=r"TINYZH_AHEAD is nine: expected .* 0 to 8"):
        Model(tokenizer=False)


def test_arrays_on_the_device(data: bytes) -> None:
    with Model(data, tokenizer=False) as cpu:
        gpu = Model.from_arrays(cpu.config, cpu.weights, device="cuda")
        assert np.array_equal(gpu.logits(IDS), cpu.logits(IDS))
        assert (gpu.weights["layers.0.wq"] == cpu.weights["layers.0.wq"]).all()
