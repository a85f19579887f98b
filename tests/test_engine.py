"""Many generations of one model at once: each is what it would be alone."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any

import checkpoints
import numpy as np
import pytest
from checkpoints import Shape
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import settled
from tinyzh import (
    ContextFull,
    Generation,
    GenerationError,
    InvalidArgument,
    Model,
    QueueFull,
)

SHAPE = Shape(32, 45, 2, 4, 2, 50, 64, tied=True)
DATA = checkpoints.v0(SHAPE, checkpoints.random_tensors(SHAPE, 5))


@dataclass(frozen=True)
class Asked:
    """One request of a crowd."""

    ids: tuple[int, ...]
    seed: int
    length: int
    priority: int
    shift: bool
    pause: float  # before it comes
    cancel_after: int | None  # pieces read


def tell(model: Model, asked: Asked) -> Generation:
    return model.generate(
        asked.ids,
        seed=asked.seed,
        temperature=1.5,
        top_p=1.0,
        logprobs=0,
        max_new_tokens=asked.length,
        priority=asked.priority,
        overflow="shift" if asked.shift else "stop",
    )


def told(generation: Generation) -> tuple[list[int], list[float], str | None]:
    generation.wait()
    return (
        generation.token_ids,
        [t.logprob for t in generation.logprobs],
        generation.finish_reason,
    )


@st.composite
def crowds(draw: st.DrawFn) -> list[Asked]:
    common = draw(st.lists(st.integers(3, 49), min_size=1, max_size=50))
    crowd = []
    for _ in range(draw(st.integers(2, 14))):
        own = draw(st.lists(st.integers(3, 49), max_size=12))
        ids = (1, *common[: draw(st.integers(0, len(common)))], *own)[:64]
        crowd.append(
            Asked(
                ids,
                draw(st.integers(1, 2**64 - 1)),
                draw(st.integers(0, 80)),
                draw(st.integers(-2, 2)),
                draw(st.booleans()),
                draw(st.sampled_from([0, 0, 0, 0.0005])),
                draw(st.sampled_from([None, None, None, 0, 3])),
            )
        )
    return crowd


@settings(deadline=None, max_examples=40)
@given(
    crowd=crowds(),
    dtype=st.sampled_from([("float32", "float32"), ("int8", "float16"), ("int4", "int8")]),
    threads=st.sampled_from([1, 2]),
    streams=st.integers(1, 12),
    pages=st.integers(4, 12),
)
def test_same_bits_in_a_crowd(
    crowd: list[Asked], dtype: tuple[str, str], threads: int, streams: int, pages: int
) -> None:
    kinds: dict[str, Any] = {"tokenizer": False, "dtype": dtype[0], "kv_dtype": dtype[1]}
    alone = []
    with Model(DATA, threads=1, streams=1, **kinds) as model:
        for asked in crowd:
            alone.append(told(tell(model, asked)))
    page = Model(DATA, **kinds).memory()["kv_cache_per_position"] * 16
    with Model(DATA, threads=threads, streams=streams, kv_cache=pages * page, **kinds) as model:
        running = []
        for asked in crowd:
            time.sleep(asked.pause)
            running.append(tell(model, asked))
        for asked, generation in zip(crowd, running, strict=True):
            if asked.cancel_after is not None:
                generation.wait(asked.cancel_after / 1000)
                generation.cancel()
        for asked, generation, expected in zip(crowd, running, alone, strict=True):
            ids, logprobs, reason = told(generation)
            if asked.cancel_after is None or reason != "cancelled":
                assert (ids, logprobs, reason) == expected
            else:
                assert ids == expected[0][: len(ids)]
                assert logprobs == expected[1][: len(ids)]
        assert model.memory()["kv_cache"] <= pages * page


def test_running_together_costs_little_more_than_alone(slow_path: Any) -> None:
    """Sixteen stories take far less than sixteen times as many steps."""
    with Model(slow_path) as model:
        stories = [
            model.generate("从前", seed=i, max_new_tokens=30, min_new_tokens=30)
            for i in range(1, 17)
        ]
        for story in stories:
            story.wait()
        stats = settled(model)
        assert stats.new_tokens == 16 * 30
        assert stats.steps < 2 * 30 + 16
        assert stats.running == stats.waiting == 0
        assert stats.requests == 16
        assert 0 < stats.step_seconds.p50 <= stats.step_seconds.p90 <= stats.step_seconds.p99
        assert 0 < stats.overhead_seconds.p50 < stats.step_seconds.p50
        assert stats.first_token_seconds.p99 > 0
        assert stats.tokens_per_second > 0


def test_a_common_beginning_is_computed_once(tiny_path: Any) -> None:
    with Model(tiny_path) as model:
        rules = "天地" * 20
        stories = [model.generate(rules + c, seed=1, max_new_tokens=2) for c in "abcdefgh"]
        for story in stories:
            story.wait()
        stats = settled(model)
        assert stats.reused_tokens >= 7 * 32
        assert stats.prompt_tokens < 8 * len(stories[0].prompt_ids) - 7 * 32 + 8


def test_overflow(tiny: Model) -> None:
    context = tiny.config.seq_len
    story = tiny.generate("从前", seed=1, min_new_tokens=10**6)
    story.wait()
    assert story.finish_reason == "length"
    assert len(story.token_ids) == context + 1 - len(story.prompt_ids)
    longer = tiny.generate(
        "从前", seed=1, min_new_tokens=10**6, max_new_tokens=3 * context, overflow="shift"
    )
    longer.wait()
    assert len(longer.token_ids) == 3 * context
    assert longer.token_ids[: len(story.token_ids)] == story.token_ids
    long_prompt = [1] + [270] * 2 * context
    with pytest.raises(ContextFull, match=str(len(long_prompt))):
        tiny.generate(long_prompt)
    after = tiny.generate(long_prompt, overflow="shift", seed=1, min_new_tokens=3, max_new_tokens=3)
    assert after.wait()
    assert len(after.token_ids) == 3
    with pytest.raises(InvalidArgument, match="overflow is 'roll': expected stop or shift"):
        tiny.generate("从前", overflow="roll")


def test_priority(slow_path: Any) -> None:
    with Model(slow_path, streams=1) as model:
        first = model.generate("从前", seed=1, min_new_tokens=10**6, max_new_tokens=40)
        low = model.generate("从前", seed=2, max_new_tokens=3, min_new_tokens=3)
        high = model.generate("从前", seed=3, max_new_tokens=3, min_new_tokens=3, priority=1)
        high.wait()
        assert low.finish_reason is None
        assert low.wait(30)
        assert first.finish_reason == "length"
        with pytest.raises(InvalidArgument, match="priority is 1001"):
            model.generate("从前", priority=1001)


def test_the_queue_is_bounded(slow: Model, slow_path: Any) -> None:
    with Model(slow_path, streams=1, queue_limit=2) as model:
        first = model.generate("从前", min_new_tokens=10**6)
        next(first)  # it runs
        waiting = [model.generate("从前", max_new_tokens=2) for _ in range(2)]
        with pytest.raises(QueueFull, match="2 requests are waiting"):
            model.generate("从前")
        waiting[0].cancel()
        again = model.generate("从前", max_new_tokens=1)
        first.cancel()
        assert again.wait(30)


def test_kv_cache_is_a_budget(tiny_path: Any) -> None:
    with Model(tiny_path) as model:
        page = 16 * model.memory()["kv_cache_per_position"]
        context = model.config.seq_len
    with Model(tiny_path, kv_cache=3 * page) as model:
        assert model.memory()["kv_cache_limit"] == 3 * page
        with pytest.raises(ContextFull, match=rf"{context} positions .*kv_cache holds {3 * page}"):
            model.generate("从前")
        for _ in range(20):
            model.generate("从前", max_new_tokens=40).read()
        memory = model.memory()
        assert memory["kv_cache"] <= 3 * page
        assert memory["kv_cache_used"] <= memory["kv_cache"]
    for wrong in (0, -5, "much", "5 parsecs", True, None.__class__):
        with pytest.raises(InvalidArgument, match="kv_cache"):
            Model(tiny_path, kv_cache=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="one page of 16 positions of this model takes"):
        Model(tiny_path, kv_cache="1k")
    with pytest.raises(InvalidArgument, match="streams is 257: expected 1 to 256 on device cpu"):
        Model(tiny_path, streams=257)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 << 20),
        ("1.5 GB", 1_500_000_000),
        ("64k", 65536),
        (7, 7),
        ("12", 12),
        ("3b", 3),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    from tinyzh.sizes import parse_bytes

    assert parse_bytes("x", text) == size


# ---- choosing ----------------------------------------------------------------------------------


def test_choose_is_the_models_own_probability(tiny: Model) -> None:
    prompt, options = "从前有一只小兔子", ["森林", "天地", "abc", "，"]
    choice = tiny.choose(prompt, options)
    before = tiny.tokenizer.encode(prompt)
    expected = []
    for option in options:
        after = tiny.tokenizer.encode(option, bos=False, dummy_prefix=False)
        logits = tiny.logits(before + after).astype(np.float64)
        logits -= np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) + (
            logits.max(-1, keepdims=True)
        )
        first = len(before) - 1
        expected.append(sum(logits[first + i, t] for i, t in enumerate(after)))
    assert choice.logprobs == pytest.approx(expected, abs=1e-4)
    shares = np.exp(expected) / np.exp(expected).sum()
    assert choice.probabilities == pytest.approx(shares, abs=1e-5)
    assert sum(choice.probabilities) == pytest.approx(1)
    assert choice.best == options[int(np.argmax(expected))]
    lengths = [len(tiny.tokenizer.encode(o, bos=False, dummy_prefix=False)) for o in options]
    weights = np.exp(np.array(expected) / lengths)
    normalised = tiny.choose(prompt, options, normalise=True)
    assert normalised.probabilities == pytest.approx(weights / weights.sum(), abs=1e-5)
    assert normalised.logprobs == choice.logprobs


def test_choose_computes_its_prompt_once(tiny_path: Any) -> None:
    with Model(tiny_path) as model:
        model.choose("天地" * 20, list("abcdefgh"))
        stats = settled(model)
        assert stats.requests == 8
        assert stats.reused_tokens >= 7 * 32


def test_scoring_needs_room_for_the_text_alone(tiny_path: Any) -> None:
    with Model(tiny_path) as model:
        page = 16 * model.memory()["kv_cache_per_position"]
        expected = model.choose("从前", ["天", "地"]), model.score("天地")
    with Model(tiny_path, kv_cache=page) as model:
        assert (model.choose("从前", ["天", "地"]), model.score("天地")) == expected


def test_what_was_to_be_scored_is_given_up_when_the_rest_fails(slow_path: Any) -> None:
    with Model(slow_path, streams=1) as model:
        running = model.generate("从前", min_new_tokens=10**6)
        next(running)
        with pytest.raises(ContextFull):
            model.choose("从前", ["天", "地", "天" * model.config.seq_len])
        assert model.stats().waiting == 0


@pytest.mark.parametrize("options", [[], "ab", None, [""], ["a", 3]])
def test_choose_refuses(tiny: Model, options: Any) -> None:
    with pytest.raises(InvalidArgument, match="option"):
        tiny.choose("从前", options)


# ---- asyncio, threads --------------------------------------------------------------------------


def test_awaiting_a_generation_is_its_text(tiny: Model) -> None:
    async def main() -> None:
        story = tiny.generate("从前", seed=4)
        assert await story == tiny.generate("从前", seed=4).read()

    asyncio.run(main())


def test_hundreds_of_tasks_need_one_thread_more(tiny: Model) -> None:
    async def main() -> None:
        before = threading.active_count()
        tasks = [asyncio.create_task(read(seed)) for seed in range(1, 301)]
        await asyncio.sleep(0.01)
        assert threading.active_count() <= before + 1
        texts = await asyncio.gather(*tasks)
        for seed in (1, 150, 300):
            expected = tiny.generate("从前", seed=seed, temperature=1.5, max_new_tokens=20).read()
            assert texts[seed - 1] == expected

    async def read(seed: int) -> str:
        story = tiny.generate("从前", seed=seed, temperature=1.5, max_new_tokens=20)
        return "".join([piece async for piece in story])

    asyncio.run(main())


def test_two_tasks_share_the_text_of_one_generation(tiny: Model) -> None:
    async def main() -> None:
        story = tiny.generate("从前", seed=9, temperature=1.5, max_new_tokens=60)

        async def some() -> list[str]:
            return [piece async for piece in story]

        first, second = await asyncio.wait_for(asyncio.gather(some(), some()), 30)
        assert sorted("".join(first) + "".join(second)) == sorted(story.text)

    asyncio.run(main())


def test_threads_read_the_stories_they_would_read_alone(tiny_path: Any) -> None:
    with Model(tiny_path, streams=5, queue_limit=2**20) as model:
        alone = {s: model.generate("从前", seed=s, temperature=1.5).read() for s in range(1, 9)}
        wrong: list[int] = []

        def work(first: int) -> None:
            for seed in range(first, first + 8):
                seed = seed % 8 + 1
                if model.generate("从前", seed=seed, temperature=1.5).read() != alone[seed]:
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_a_closed_model_ends_everything(slow_path: Any) -> None:
    model = Model(slow_path, streams=2)
    stories = [model.generate("从前", min_new_tokens=10**6) for _ in range(6)]
    next(stories[0])
    model.close()
    assert [s.finish_reason for s in stories] == ["cancelled"] * 6
    for act in (lambda: model.generate(""), lambda: model.score("从前"), lambda: model.session("")):
        with pytest.raises(GenerationError, match="closed"):
            act()
