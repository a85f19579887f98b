"""The same generations, awaited."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import tinyzh
from tinyzh import GenerationError, Model
from tinyzh.postman import Postman

LONG: dict[str, Any] = {"min_new_tokens": 10**6, "seed": 1}
SOON = 1.0  # seconds, for a busy machine


def test_async_for_gives_the_text(tiny: Model) -> None:
    async def main() -> None:
        for seed in range(1, 6):
            story = tiny.generate("从前", seed=seed, temperature=1.5)
            pieces = [piece async for piece in story]
            assert all(pieces)
            assert "".join(pieces) == story.text
            assert story.text == tiny.generate("从前", seed=seed, temperature=1.5).read()

    asyncio.run(main())


def test_a_finished_story_and_aread(tiny: Model) -> None:
    async def main() -> None:
        story = tiny.generate("从前", seed=1, echo=True)
        story.wait()
        first = next(story)
        assert first == "从前"
        assert first + await story.aread() == story.text
        assert await story.aread() == ""
        assert [piece async for piece in story] == []

    asyncio.run(main())


def test_many_tasks_at_once_and_a_loop_that_stays_free(tiny: Model) -> None:
    async def one(seed: int) -> str:
        return "".join([piece async for piece in tiny.generate("从前", seed=seed, temperature=2)])

    async def main() -> list[str]:
        gaps: list[float] = []

        async def tick() -> None:
            while True:
                start = time.monotonic()
                await asyncio.sleep(0.001)
                gaps.append(time.monotonic() - start)

        ticker = asyncio.create_task(tick())
        stories = await asyncio.gather(*(one(seed) for seed in range(1, 41)))
        await asyncio.sleep(0.02)  # so that the last gap counts too
        ticker.cancel()
        assert gaps
        assert max(gaps) < SOON, "the event loop stood still"
        return stories

    stories = asyncio.run(main())
    assert stories == [tiny.generate("从前", seed=s, temperature=2).read() for s in range(1, 41)]


async def queue_seconds(model: Model) -> float:
    after = model.generate("从前", max_new_tokens=1, seed=1)
    await after.aread()
    queued = after.stats.queue_seconds
    assert queued is not None
    return queued


def test_break_cancels(slow: Model) -> None:
    async def main() -> None:
        story = slow.generate("从前", **LONG)
        async for _ in story:
            break
        await asyncio.sleep(0)
        assert story.finish_reason == "cancelled"
        assert await queue_seconds(slow) < SOON

    asyncio.run(main())


def test_cancelling_the_task_cancels_the_story(slow: Model) -> None:
    async def main() -> None:
        story = slow.generate("从前", **LONG)

        async def consume() -> None:
            async for _ in story:
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert story.finish_reason == "cancelled"
        assert await queue_seconds(slow) < SOON

    asyncio.run(main())


def test_wait_for(slow: Model) -> None:
    async def main() -> None:
        story = slow.generate("从前", **LONG)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(story.aread(), 0.05)
        story.cancel()
        assert story.finish_reason == "cancelled"

    asyncio.run(main())


def test_timeout_in_the_queue(slow: Model) -> None:
    async def main() -> None:
        running = slow.generate("从前", **LONG)
        start = time.monotonic()
        story = slow.generate("从前", timeout=0.05, **LONG)
        assert await story.aread() == ""
        assert story.finish_reason == "timeout"
        assert 0.05 <= time.monotonic() - start < SOON
        assert running.finish_reason is None
        running.cancel()

    asyncio.run(main())


def test_timeout_while_running(slow: Model) -> None:
    async def main() -> None:
        story = slow.generate("从前", timeout=0.4, **LONG)
        assert await story.aread() == story.text != ""
        assert story.finish_reason == "timeout"

    asyncio.run(main())


def test_errors_are_raised(tiny_path: Path) -> None:
    async def main() -> None:
        model = Model(tiny_path)
        story = model.generate("从前", bad_words=["a"], **LONG)
        model.close()
        assert await story.aread() is not None
        assert story.finish_reason in ("cancelled", "length")
        with pytest.raises(GenerationError, match="closed"):
            model.generate("从前")

    asyncio.run(main())


def test_cancel_from_elsewhere_wakes_the_reader(slow: Model) -> None:
    async def main() -> None:
        running = slow.generate("从前", **LONG)
        waiting = slow.generate("从前", **LONG)
        threading.Timer(0.05, waiting.cancel).start()
        assert await asyncio.wait_for(waiting.aread(), SOON) == ""
        assert running.finish_reason is None
        running.cancel()

    asyncio.run(main())


def test_a_thread_that_looks_while_a_task_reads(tiny: Model) -> None:
    """Neither may wait for the other's lock."""
    done = threading.Event()

    async def main() -> None:
        for seed in range(1, 30):
            story = tiny.generate("从前", seed=seed, temperature=2)

            def look(story: Any = story) -> None:
                while story.finish_reason is None and not done.is_set():
                    _ = story.text, story.token_ids, story.stats

            thread = threading.Thread(target=look)
            thread.start()
            await asyncio.wait_for(story.aread(), 5)
            await asyncio.to_thread(thread.join)

    try:
        asyncio.run(main())
    finally:
        done.set()


def test_a_thread_that_waits_does_not_hold_up_the_task(slow: Model) -> None:
    async def main() -> None:
        running = slow.generate("从前", **LONG)
        waiting = slow.generate("从前", **LONG)
        thread = threading.Thread(target=waiting.read)
        thread.start()
        start = time.monotonic()
        reader = asyncio.create_task(waiting.aread())
        await asyncio.sleep(0.05)
        waiting.cancel()
        assert await asyncio.wait_for(reader, SOON) == ""
        assert time.monotonic() - start < SOON
        await asyncio.to_thread(thread.join)
        running.cancel()

    asyncio.run(main())


def test_a_reader_is_collected_while_its_thread_has_the_lock(slow: Model) -> None:
    running = slow.generate("从前", **LONG)
    story = slow.generate("从前", **LONG)  # waits for its turn, and its reader with it
    loop = asyncio.new_event_loop()
    reading = story._next_async()
    task = loop.create_task(reading)
    while not story._waiting:
        loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]

    def collect() -> None:
        with story._lock:
            reading.close()  # as the garbage collector does

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(SOON)
    assert not thread.is_alive()
    assert story._waiting == []
    story.cancel()
    running.cancel()


def test_a_loop_that_is_over_is_let_go(tiny: Model) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(tiny.generate("从前", seed=1, min_new_tokens=50).aread())
    loop.close()
    weak = weakref.ref(loop)
    del loop
    end = time.monotonic() + SOON
    while weak() is not None and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert weak() is None


def test_when_words_were_missed_every_reader_is_told(tiny: Model) -> None:
    """As when the engine has no memory for one."""

    async def told() -> list[bool]:
        loop = asyncio.get_running_loop()
        events = [asyncio.Event() for _ in range(3)]
        postman = Postman()
        for event in events:
            postman.add([(loop, weakref.ref(event))])
        postman._wake(None)
        await asyncio.sleep(0.05)
        postman.close()
        return [event.is_set() for event in events]

    assert asyncio.run(told()) == [True] * 3


LOOP_CLOSED = """
import asyncio, gc, sys, time, tinyzh, weakref

model = tinyzh.Model(sys.argv[1])
for dropped in (True, False):
    length = 10**6 if dropped else 300
    story = model.generate("从前", min_new_tokens=length, max_new_tokens=length, seed=1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(story.aread())
    task._log_destroy_pending = False
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()                 # with a reader inside
    del task
    if dropped:                  # the rest of the story goes with its last reader
        weak = weakref.ref(story)
        del story
        for _ in range(2000):    # the postman may be on its way to the reader
            gc.collect()
            if weak() is None:
                break
            time.sleep(0.01)
        assert weak() is None
        after = model.generate("从前", max_new_tokens=1, seed=1)
        after.wait()
        assert after.stats.queue_seconds < 1
    else:                        # or the engine goes on
        story.wait()
        assert story.finish_reason == "length", story.finish_reason
print(asyncio.run(model.generate("从前", seed=1, max_new_tokens=2).aread()) is not None)
"""


def test_a_loop_closed_early(slow_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", LOOP_CLOSED, str(slow_path)],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (run.returncode, run.stdout) == (0, "True\n"), run.stderr
    assert "waker" not in run.stderr
    assert "RuntimeError" not in run.stderr


def test_two_tasks_read_one_generation(tiny: Model) -> None:
    """They share its text, and both see its end."""

    async def read(story: tinyzh.Generation) -> str:
        return await story.aread()

    async def both() -> tuple[str, str, str]:
        story = tiny.generate([1], seed=1, max_new_tokens=300, min_new_tokens=300)
        one, two = await asyncio.wait_for(asyncio.gather(read(story), read(story)), 30)
        return one, two, story.text

    one, two, text = asyncio.run(both())
    assert sorted(one + two) == sorted(text)
