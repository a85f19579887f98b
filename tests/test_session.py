"""Sessions: a text that several generations continue."""

from __future__ import annotations

import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from small_models import settled
from tinyzh import (
    ContextFull,
    FileError,
    FileMissing,
    GenerationError,
    InvalidArgument,
    Model,
    Session,
)

SHORT: dict[str, Any] = {"max_new_tokens": 8, "temperature": 1.5}


def test_a_session_is_its_tokens(tiny: Model) -> None:
    session = tiny.session("从前，")
    expected = tiny.tokenizer.encode("从前，")
    for turn in range(5):
        text = ["有一只", "它", "", "住在", "天地"][turn]
        expected += tiny.tokenizer.encode(text, bos=False, dummy_prefix=False) if text else []
        generation = session.say(text, seed=turn + 1, **SHORT)
        again = tiny.generate(expected, seed=turn + 1, overflow="shift", **SHORT)
        assert generation.read() == again.read()
        expected += generation.token_ids
        assert session.token_ids == expected
    assert session.text == tiny.tokenizer.decode(expected)


def test_the_first_text_of_an_empty_session_begins_it(tiny: Model) -> None:
    session = tiny.session()
    session.say("从前", max_new_tokens=0).wait()
    assert session.token_ids == tiny.tokenizer.encode("从前")
    session.say("从前", max_new_tokens=0).wait()
    alone = tiny.tokenizer.encode("从前", bos=False, dummy_prefix=False)
    assert session.token_ids == tiny.tokenizer.encode("从前") + alone


def test_text_is_never_merged_across_the_border(tiny: Model) -> None:
    session = tiny.session("a")
    session.say("b", max_new_tokens=0).wait()
    assert session.token_ids[-2:] == [
        *tiny.tokenizer.encode("a", bos=False, dummy_prefix=False),
        *tiny.tokenizer.encode("b", bos=False, dummy_prefix=False),
    ]
    assert tiny.session("x").token_ids[0] == 1


def test_what_was_said_is_not_computed_again(tiny_path: Path) -> None:
    with Model(tiny_path) as model:
        session = model.session("天地" * 20)
        session.say(seed=1, **SHORT).wait()
        computed = settled(model).prompt_tokens
        session.say("从", seed=2, **SHORT).wait()
        # The last token of the first turn, what was said, and nothing else.
        assert settled(model).prompt_tokens - computed <= 2
        fork = session.fork()
        computed = settled(model).prompt_tokens
        fork.say("前", seed=3, **SHORT).wait()
        assert settled(model).prompt_tokens - computed <= 2


def test_an_evicted_session_goes_on_as_if_nothing_had_been(tiny_path: Path) -> None:
    with Model(tiny_path) as model:
        page = 16 * model.memory()["kv_cache_per_position"]
        whole = model.session("天地" * 15)
        whole.say(seed=1, **SHORT).wait()
        whole.say("从", seed=2, **SHORT).wait()
    with Model(tiny_path, kv_cache=8 * page) as model:
        session = model.session("天地" * 15)
        session.say(seed=1, **SHORT).wait()
        for seed in range(5):
            model.generate(
                "abcdefgh" * 5, seed=seed + 1, min_new_tokens=50, max_new_tokens=50
            ).wait()
        reused = settled(model).reused_tokens
        session.say("从", seed=2, **SHORT).wait()
        assert settled(model).reused_tokens < reused + 16  # nothing of it was left
        assert session.token_ids == whole.token_ids


def test_a_fork_goes_its_own_way(tiny: Model) -> None:
    session = tiny.session("从前，有一只")
    session.say(seed=1, **SHORT).wait()
    fork = session.fork()
    before = session.token_ids
    fork.say("小兔子", seed=2, **SHORT).wait()
    assert session.token_ids == before
    assert fork.token_ids[: len(before)] == before


def test_who_looks_while_it_speaks_misses_nothing(tiny: Model) -> None:
    """The last tokens may come between two looks."""
    for seed in range(1, 41):
        session = tiny.session("从前")
        before = session.token_ids
        generation = session.say(seed=seed, max_new_tokens=20, temperature=1.5)
        while "speaking" in repr(session):
            _ = session.token_ids
        assert session.token_ids == before + generation.token_ids


def test_of_many_threads_one_gets_the_turn(slow: Model) -> None:
    session, told, refused = slow.session("从前"), [], []
    before = session.token_ids
    together = threading.Barrier(8)

    def say() -> None:
        together.wait()
        try:
            told.append(session.say(min_new_tokens=10**6))
        except GenerationError:
            refused.append(1)

    threads = [threading.Thread(target=say) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert (len(told), len(refused)) == (1, 7)
    told[0].cancel()
    assert session.token_ids == before + told[0].token_ids


def test_one_turn_after_the_other(slow: Model, tmp_path: Path) -> None:
    session = slow.session("从前")
    running = session.say(min_new_tokens=10**6)
    next(running)
    for act in (lambda: session.say("a"), session.fork, lambda: session.save(tmp_path / "s")):
        with pytest.raises(GenerationError, match="still running"):
            act()
    running.cancel()
    assert session.token_ids[-len(running.token_ids) :] == running.token_ids  # what there was stays
    assert session.say("a", max_new_tokens=1).wait(30)


def test_a_session_goes_on_beyond_the_context_or_says_that_it_cannot(tiny: Model) -> None:
    session = tiny.session("从前")
    for seed in range(1, 12):
        session.say("天地", seed=seed, min_new_tokens=20, max_new_tokens=20).wait()
    assert len(session.token_ids) > 1.5 * tiny.config.seq_len
    with pytest.raises(ContextFull):
        session.say("天", overflow="stop")


def test_save_and_load(tiny: Model, tmp_path: Path) -> None:
    session = tiny.session("从前，有一只")
    session.say(seed=1, **SHORT).wait()
    session.save(tmp_path / "s.tzs")
    assert [p.name for p in tmp_path.iterdir()] == ["s.tzs"]
    assert (tmp_path / "s.tzs").stat().st_size == 28 + 4 * len(session.token_ids)
    loaded = Session.load(tiny, tmp_path / "s.tzs")
    assert loaded.token_ids == session.token_ids
    assert loaded.say("它", seed=2, **SHORT).read() == session.say("它", seed=2, **SHORT).read()


def test_load_refuses(tiny: Model, slow: Model, tmp_path: Path) -> None:
    path = tmp_path / "s.tzs"
    tiny.session("从前，有一只").save(path)
    good = path.read_bytes()
    with pytest.raises(InvalidArgument, match=r"s\.tzs: saved with another model: open the one"):
        Session.load(slow, path)
    for i in range(len(good)):
        for bad in (good[:i], good[:i] + bytes([good[i] ^ 4]) + good[i + 1 :]):
            path.write_bytes(bad)
            with pytest.raises((InvalidArgument, FileError), match=r"s\.tzs"):
                Session.load(tiny, path)
    path.write_bytes(good + b"x")
    with pytest.raises(InvalidArgument, match="damaged"):
        Session.load(tiny, path)
    old = good[:8] + (999).to_bytes(4, "little") + good[12:-4]
    path.write_bytes(old + zlib.crc32(old).to_bytes(4, "little"))
    with pytest.raises(InvalidArgument, match=r"numerics version 999, and this is version \d"):
        Session.load(tiny, path)
    with pytest.raises(FileMissing):
        Session.load(tiny, tmp_path / "none")
    with pytest.raises(FileError):
        tiny.session("").save(tmp_path / "no folder" / "s.tzs")


def test_the_fingerprint_tells_models_apart(tiny: Model, tiny_path: Path, slow: Model) -> None:
    data = bytearray(tiny_path.read_bytes())
    assert Model(bytes(data), tokenizer=False).fingerprint == tiny.fingerprint
    assert tiny.fingerprint != slow.fingerprint
    for i in range(100, len(data), 50):
        data[i] ^= 1
    assert Model(bytes(data), tokenizer=False).fingerprint != tiny.fingerprint
