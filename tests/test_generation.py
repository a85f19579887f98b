"""Generations: their text, their ends, many of them, and what goes wrong."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import tinyzh
from checkpoints import Shape
from small_models import SLOW, TINY, byte_ids, char_ids
from tinyzh import ContextFull, GenerationError, InvalidArgument, Model, QueueFull, TokenizerError

Teller = Callable[[Sequence[int]], Model]
#: A story that goes on to the end of the context, for seconds on the slow model.
LONG: dict[str, Any] = {"min_new_tokens": 10**6, "seed": 1}
SOON = 1.0  # seconds, for a busy machine; one step of the slow model takes a millisecond

# ---- text ---------------------------------------------------------------------------------------


def test_streamed_text_is_the_text(tiny: Model) -> None:
    for seed in range(1, 11):
        streamed = tiny.generate("从前", seed=seed, temperature=1.5)
        pieces = list(streamed)
        read = tiny.generate("从前", seed=seed, temperature=1.5)
        assert "".join(pieces) == read.read() == streamed.text == read.text
        assert all(pieces)
        assert (streamed.token_ids, streamed.seed) == (read.token_ids, read.seed)


def test_a_late_reader_loses_nothing(tiny: Model) -> None:
    story = tiny.generate("从前", seed=4)
    assert story.wait()
    first = next(story)
    assert first
    assert first + story.read() == story.text
    assert story.read() == ""
    assert list(story) == []
    with pytest.raises(StopIteration):
        next(story)


def test_the_next_word_after_leaving_off(tiny: Model) -> None:
    story = tiny.generate("从前", seed=4)
    story.wait()
    parts = [next(story)]
    parts.extend(story)
    assert "".join(parts) == story.text


@pytest.mark.parametrize("character", ["从", "😀", "é"])
def test_whole_characters_of_byte_tokens(tell: Teller, character: str) -> None:
    ids = byte_ids(character.encode())
    story = tell([*char_ids("小"), *ids, *char_ids("子")]).generate("", temperature=0)
    assert list(story) == ["小", character, "子"]
    assert story.token_ids == [*char_ids("小"), *ids, *char_ids("子")]


@pytest.mark.parametrize(
    ("ids", "pieces"),
    [
        # A lead byte waits for what follows it; a letter shows that nothing will.
        ([*byte_ids(b"\xe4\xbb"), *char_ids("a")], ["\ufffda"]),
        ([*byte_ids(b"\xf0\x9f\x98"), *char_ids("从")], ["\ufffd从"]),
        ([*byte_ids(b"\xe4\xbb")], ["\ufffd"]),  # the end shows it too
        ([*byte_ids(b"\x80\x81"), *char_ids("a")], ["\ufffd", "\ufffd", "a"]),
        ([*byte_ids(b"\xe4\xf0\x9f\x98\x80")], ["\ufffd", "😀"]),
        ([*byte_ids(b"\xff"), *byte_ids(b"\xc0")], ["\ufffd", "\ufffd"]),
    ],
)
def test_broken_characters(tell: Teller, ids: list[int], pieces: list[str]) -> None:
    story = tell(ids).generate("", temperature=0)
    assert list(story) == pieces
    raw = b"".join(story_bytes(tell(ids)))
    assert "".join(pieces) == raw.decode("utf-8", "replace")


def story_bytes(model: Model) -> list[bytes]:
    story = model.generate("", temperature=0, logprobs=0)
    story.wait()
    return [entry.bytes for entry in story.logprobs]


def test_echo(tell: Teller) -> None:
    model = tell(char_ids("从前有一只"))
    prompt = [1, *char_ids("从前")]
    story = model.generate("从前", temperature=0, echo=True)
    assert list(story) == ["从前", "有", "一", "只"]
    assert story.text == "从前有一只"
    assert model.generate(prompt, temperature=0, echo=True).read() == "从前有一只"
    assert model.generate("从前", temperature=0).read() == "有一只"
    assert model.generate("", temperature=0, echo=True).read() == "从前有一只"


def test_the_dummy_prefix_is_no_text(tell: Teller) -> None:
    """The space that text is encoded with in front: dropped where the text begins, only there."""
    model = tell(char_ids(" 从前"))
    assert model.generate("", temperature=0).read() == "从前"
    assert model.generate([1], temperature=0).read() == "从前"
    inside = tell(char_ids("从 前"))
    assert inside.generate("", temperature=0).read() == "从 前"
    assert inside.generate([1, *char_ids("从")], temperature=0).read() == " 前"


def test_the_empty_prompt_is_bos(tiny: Model) -> None:
    story = tiny.generate("", seed=1, max_new_tokens=5)
    assert story.prompt_ids == [1]
    assert story.read() == tiny.generate([1], seed=1, max_new_tokens=5).read()


def test_a_prompt_of_ids_needs_no_tokenizer(tiny: Model, tiny_path: Path) -> None:
    with tinyzh.Model(tiny_path, tokenizer=False) as bare:
        ids = tiny.tokenizer.encode("从前")
        story = bare.generate(np.array(ids), seed=3, logprobs=0)
        assert list(story) == []
        assert story.text == ""
        expected = tiny.generate("从前", seed=3)
        expected.wait()
        assert story.token_ids == expected.token_ids
        with pytest.raises(TokenizerError, match="tokenizer=False: pass token ids"):
            bare.generate("从前")
        with pytest.raises(TokenizerError, match="tokenizer=False"):
            _ = bare.tokenizer
        for changes in ({"stop": "。"}, {"bad_words": ["a"]}):
            with pytest.raises(InvalidArgument, match="without a tokenizer"):
                bare.generate(ids, **changes)


@pytest.mark.parametrize("prompt", [None, 5, b"abc", ["从"], [1.5], [1, None]])
def test_what_is_no_prompt(tiny: Model, prompt: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected a string or a list of token ids"):
        tiny.generate(prompt)


@pytest.mark.parametrize("token", [-1, TINY.vocab_size, 2**40])
def test_a_prompt_with_a_wrong_id(tiny: Model, token: int) -> None:
    last = TINY.vocab_size - 1
    with pytest.raises(InvalidArgument, match=rf"token 1 of prompt is {token}: .*0 to {last}"):
        tiny.generate([1, token])


def test_a_prompt_without_tokens(tiny: Model) -> None:
    with pytest.raises(InvalidArgument, match="expected at least BOS"):
        tiny.generate([])


# ---- ends ---------------------------------------------------------------------------------------


def test_finish_reasons(tell: Teller, tiny: Model) -> None:
    story = tell(char_ids("从前")).generate("", temperature=0)
    assert story.read() == "从前"
    assert (story.finish_reason, story.token_ids) == ("stop", char_ids("从前"))  # without the EOS
    story = tiny.generate("从前", **LONG)
    story.wait()
    assert story.finish_reason == "length"
    # Every position holds a token, and the last one drawn needs none.
    assert len(story.prompt_ids) + len(story.token_ids) == TINY.seq_len + 1


def test_bos_ends_a_story_too(tell: Teller) -> None:
    model = tell(char_ids("从前"))
    story = model.generate("", temperature=0, logit_bias={1: 100})
    assert story.read() == ""
    assert (story.finish_reason, story.token_ids) == ("stop", [])


def leave_by_break(story: tinyzh.Generation) -> None:
    for _ in story:
        break


def leave_by_exception(story: tinyzh.Generation) -> None:
    with contextlib.suppress(ZeroDivisionError):
        for _ in story:
            raise ZeroDivisionError


def leave_by_with(story: tinyzh.Generation) -> None:
    with story:
        next(story)


@pytest.mark.parametrize(
    "leave",
    [
        leave_by_break,
        leave_by_exception,
        leave_by_with,
        tinyzh.Generation.cancel,
        tinyzh.Generation.close,
    ],
)
def test_leaving_early_cancels_within_a_step(
    slow: Model, leave: Callable[[tinyzh.Generation], None]
) -> None:
    story = slow.generate("从前", **LONG)
    next(story)
    leave(story)
    assert story.finish_reason == "cancelled"
    told = story.token_ids
    after = slow.generate("从前", max_new_tokens=2, seed=1)
    after.wait()
    queued = after.stats.queue_seconds
    assert queued is not None
    assert queued < SOON
    assert len(told) < SLOW.seq_len - 50
    assert story.token_ids == told  # what readers saw is the end
    assert story.read() is not None


def test_dropping_the_last_reference_cancels(slow: Model) -> None:
    story = slow.generate("从前", **LONG)
    next(story)
    del story
    gc.collect()
    after = slow.generate("从前", max_new_tokens=2, seed=1)
    after.wait()
    queued = after.stats.queue_seconds
    assert queued is not None
    assert queued < SOON


def test_cancelling_a_finished_story_changes_nothing(tiny: Model) -> None:
    story = tiny.generate("从前", seed=1, max_new_tokens=5)
    text = story.read()
    story.cancel()
    assert (story.finish_reason, story.text) in [("length", text), ("stop", text)]


def test_cancelling_one_that_waits(slow: Model) -> None:
    running = slow.generate("从前", **LONG)
    waiting = slow.generate("从前", **LONG)
    waiting.cancel()
    assert (waiting.finish_reason, waiting.read()) == ("cancelled", "")
    running.cancel()


@pytest.mark.parametrize("timeout", [0, 1e-9])
def test_no_time_at_all(tiny: Model, timeout: float) -> None:
    story = tiny.generate("从前", timeout=timeout, **LONG)
    assert story.read() == ""
    assert story.finish_reason == "timeout"


def test_little_time(slow: Model) -> None:
    start = time.monotonic()
    story = slow.generate("从前", timeout=0.4, **LONG)
    text = story.read()
    assert story.finish_reason == "timeout"
    assert time.monotonic() - start < 0.4 + SOON
    assert text == story.text
    assert 0 < len(story.token_ids) < SLOW.seq_len - 50


@pytest.mark.parametrize("look", ["read", "wait", "finish_reason"])
def test_time_passes_in_the_queue(slow: Model, look: str) -> None:
    running = slow.generate("从前", **LONG)
    story = slow.generate("从前", timeout=0.05, **LONG)
    if look == "read":
        assert story.read() == ""
    elif look == "wait":
        assert story.wait()
    else:
        time.sleep(0.06)
    assert story.finish_reason == "timeout"
    assert running.finish_reason is None, "it waited for the one before it"
    running.cancel()


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), "1", 2e9])
def test_a_wrong_timeout(tiny: Model, timeout: Any) -> None:
    with pytest.raises(InvalidArgument, match=rf"timeout is {timeout!r}: .*from 0 up to 1e\+09"):
        tiny.generate("从前", timeout=timeout)


def test_wait_with_a_limit(slow: Model) -> None:
    story = slow.generate("从前", **LONG)
    start = time.monotonic()
    assert not story.wait(0.05)
    assert 0.05 <= time.monotonic() - start < 0.05 + SOON
    assert not story.wait(0)
    story.cancel()
    assert story.wait(0)


def test_stats(slow: Model) -> None:
    story = slow.generate("从前", seed=1, min_new_tokens=50, max_new_tokens=50)
    running = story.stats
    assert running.prompt_tokens == len(story.prompt_ids)
    story.wait()
    stats = story.stats
    assert stats.new_tokens == 50
    assert stats.queue_seconds is not None
    assert stats.time_to_first_token is not None
    assert stats.seconds is not None
    assert 0 <= stats.queue_seconds <= stats.time_to_first_token < stats.seconds
    assert stats.tokens_per_second == pytest.approx(
        49 / (stats.seconds - stats.time_to_first_token)
    )


def test_repr(tiny: Model) -> None:
    story = tiny.generate("从前", seed=5, min_new_tokens=3, max_new_tokens=3)
    story.wait()
    assert repr(story) == "<Generation length, 3 tokens, seed 5>"


# ---- what goes wrong ----------------------------------------------------------------------------


def test_a_prompt_as_long_as_the_context_and_longer(tiny: Model) -> None:
    ids = [1, *char_ids("从") * (TINY.seq_len - 1)]
    story = tiny.generate(ids, **LONG)
    story.wait()
    assert (len(story.token_ids), story.finish_reason) == (1, "length")
    with pytest.raises(ContextFull, match=rf"{TINY.seq_len + 2} tokens.*{TINY.seq_len}.*by 2 t"):
        tiny.generate([*ids, 5, 6])


def wait_until_running(story: tinyzh.Generation) -> None:
    while story.stats.queue_seconds is None:
        time.sleep(0.001)


def test_a_full_queue(slow_path: Path) -> None:
    with tinyzh.Model(slow_path, streams=1, queue_limit=1) as model:
        running = model.generate("从前", **LONG)
        wait_until_running(running)
        waiting = model.generate("从前", **LONG)
        start = time.monotonic()
        with pytest.raises(QueueFull, match=r"1 requests are waiting.*queue_limit.*try again"):
            model.generate("从前")
        assert time.monotonic() - start < SOON, "an error at once, not a wait"
        waiting.cancel()  # makes room
        model.generate("从前", **LONG).cancel()
        running.cancel()
        assert model.generate("从前", max_new_tokens=0).read() == ""


@pytest.mark.parametrize("limit", [0, -1, 2**31, 1.5, True])
def test_a_wrong_queue_limit(tiny_path: Path, limit: Any) -> None:
    with pytest.raises(InvalidArgument, match=rf"queue_limit is {limit!r}: .*1 to 2147483647"):
        tinyzh.Model(tiny_path, queue_limit=limit)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_weights(value: float) -> None:
    shape = Shape(16, 16, 2, 2, 2, 20, 16)
    tensors = checkpoints.random_tensors(shape)
    tensors["w1"][1, 3, 4] = value
    with tinyzh.Model(checkpoints.v0(shape, tensors), tokenizer=False) as model:
        story = model.generate([1])
        with pytest.raises(GenerationError, match=r"logit of token 0 is .*broken weights"):
            story.read()
        assert story.finish_reason == "error"
        with pytest.raises(GenerationError):
            list(story)
        with pytest.raises(GenerationError):
            model.generate_many([[1], [1]])
    with pytest.raises(tinyzh.CheckpointError, match=r"w1 of layer 1: row 3 .*no int8 form"):
        tinyzh.Model(checkpoints.v0(shape, tensors), tokenizer=False, dtype="int8")


def test_a_score_that_is_no_number(tiny: Model) -> None:
    shape = Shape(16, 16, 2, 2, 2, tiny.config.vocab_size, 16)
    tensors = checkpoints.random_tensors(shape)
    tensors["rms_final"][0] = np.nan
    with (
        tinyzh.Model(checkpoints.v0(shape, tensors), tokenizer=tiny.tokenizer) as model,
        pytest.raises(GenerationError, match="broken weights"),
    ):
        model.score("从前")


# ---- many ---------------------------------------------------------------------------------------


def test_sixteen_threads_and_each_gets_its_own_story(tiny: Model) -> None:
    seeds = range(1, 49)
    alone = [tiny.generate("从前", seed=s, temperature=1.5).read() for s in seeds]
    assert len(set(alone)) == len(alone)

    def one(seed: int) -> str:
        return "".join(tiny.generate("从前", seed=seed, temperature=1.5))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, seeds)) == alone


PROMPTS: list[str | list[int]] = ["从前", "", "有一只小兔子", [1, 270], "从前"]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_generate_many_is_one_by_one(tiny_path: Path, limit: int) -> None:
    with tinyzh.Model(tiny_path, queue_limit=limit) as model:
        stories = model.generate_many(iter(PROMPTS), seed=7, temperature=1.5, echo=True)
        assert [story.seed for story in stories] == [7, 8, 9, 10, 11]
        for i, (prompt, story) in enumerate(zip(PROMPTS, stories, strict=True)):
            assert story.finish_reason in ("stop", "length")
            one = model.generate(prompt, seed=7 + i, temperature=1.5, echo=True)
            assert story.read() == one.read()
            assert story.token_ids == one.token_ids
        assert stories[0].text != stories[4].text
        assert model.generate_many([]) == []


def test_generate_many_waits_for_room_that_others_take(slow_path: Path) -> None:
    with tinyzh.Model(slow_path, streams=1, queue_limit=1) as model:
        running = model.generate("从前", **LONG)
        wait_until_running(running)
        waiting = model.generate("从前", **LONG)
        threading.Timer(0.1, lambda: (running.cancel(), waiting.cancel())).start()
        (story,) = model.generate_many(["从前"], max_new_tokens=1, seed=1)
        assert len(story.token_ids) == 1


def test_generate_many_checks_and_cleans_up(slow: Model) -> None:
    with pytest.raises(InvalidArgument, match="expected a list of prompts"):
        slow.generate_many("从前")
    with pytest.raises(InvalidArgument, match="unknown parameter 'heat'"):
        slow.generate_many(["从前"], heat=1)
    with pytest.raises(ContextFull):
        slow.generate_many(["从前", [1] * 5000], **LONG)
    after = slow.generate("从前", max_new_tokens=1, seed=1)
    after.wait()
    queued = after.stats.queue_seconds
    assert queued is not None
    assert queued < SOON, "the first one was left running"


def test_generate_many_with_a_timeout(slow: Model) -> None:
    stories = slow.generate_many(["从前"] * 4, timeout=0.1, **LONG)
    assert {story.finish_reason for story in stories} == {"timeout"}


# ---- the model goes -----------------------------------------------------------------------------


def test_closing_while_stories_run(slow_path: Path) -> None:
    model = tinyzh.Model(slow_path)
    stories = [model.generate("从前", **LONG) for _ in range(3)]
    next(stories[0])
    readers = [threading.Thread(target=story.read) for story in stories]
    for reader in readers:
        reader.start()
    start = time.monotonic()
    closers = [threading.Thread(target=model.close) for _ in range(2)]
    for closer in closers:
        closer.start()
    for thread in (*closers, *readers):
        thread.join(5)
        assert not thread.is_alive()
    assert time.monotonic() - start < SOON
    assert [story.finish_reason for story in stories] == ["cancelled"] * 3
    model.close()  # again


def test_use_after_close(tiny_path: Path) -> None:
    with tinyzh.Model(tiny_path) as model:
        story = model.generate("从前", seed=1)
        text = story.read()
    for use in (
        lambda: model.generate("从前"),
        lambda: model.generate_many(["从前"]),
        lambda: model.score("从前"),
        lambda: model.logits([1]),
    ):
        with pytest.raises(GenerationError, match="the model is closed: open it again"):
            use()
    assert story.text == text
    assert model.config.dim == TINY.dim
    assert "dim 32" in repr(model)


def test_a_story_keeps_its_model(tiny: Model, tiny_path: Path) -> None:
    """``for piece in Model(path).generate(...)`` has nobody else to hold the model."""
    expected = tiny.generate("从前", seed=2, temperature=1.5).read()
    story = tinyzh.Model(tiny_path).generate("从前", seed=2, temperature=1.5)
    gc.collect()
    assert story.read() == expected
    assert story.finish_reason != "cancelled"


def test_models_and_stories_come_and_go(slow_path: Path) -> None:
    """Dropped in the middle, in every order, nothing hangs and nothing is left behind."""
    before = threading.active_count()
    start = time.monotonic()
    for keep in range(3):
        model = tinyzh.Model(slow_path)
        stories = [model.generate("从前", **LONG) for _ in range(3)]
        next(stories[0])
        kept = stories[keep]
        del model, stories
        kept.cancel()
        del kept
    assert time.monotonic() - start < 3
    assert threading.active_count() == before


# ---- the interpreter stays free -----------------------------------------------------------------


def test_other_threads_run_meanwhile(slow: Model) -> None:
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        ids = [1] * 1000
        for work in (
            lambda: slow.logits(ids),
            lambda: slow.generate(ids, max_new_tokens=1, seed=1).read(),
            lambda: slow.generate("从前", min_new_tokens=99, max_new_tokens=99).wait(),
        ):
            start = time.monotonic()
            work()
            end = time.monotonic()
            inside = sum(start < t < end for t in ticks)
            assert inside >= (end - start) / 0.02, f"{inside} ticks in {end - start:.3f} s"
    finally:
        stop.set()
        thread.join()


def test_scoring_gets_its_turn(slow_path: Path) -> None:
    with Model(slow_path) as model:
        running = model.generate("从前", **LONG)
        next(running)
        model.score("小兔子住在森林里")
        model.logits([1, 5, 6])
        assert running.finish_reason is None, "it waited for the whole story"


def test_readers_on_several_threads_share_the_text(tiny: Model) -> None:
    """Each piece goes to one of them, none to two and none to nobody."""
    for seed in range(1, 6):
        story = tiny.generate([1], seed=seed, max_new_tokens=200, min_new_tokens=200)
        parts: list[str] = []

        def read(story: tinyzh.Generation = story, parts: list[str] = parts) -> None:
            while (piece := next(story, None)) is not None:
                parts.append(piece)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted("".join(parts)) == sorted(story.text)
