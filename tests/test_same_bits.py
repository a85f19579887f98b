"""A model gives the same bits whatever the threads, the instruction set, the way it is asked."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from checkpoints import Shape
from hypothesis import given, settings
from hypothesis import strategies as st
from tinyzh import BackendError, Model, _core


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    heads = draw(st.sampled_from([1, 2, 3, 4, 6]))
    kv_heads = draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]))
    return Shape(
        dim=heads * 2 * draw(st.integers(1, 12)),
        hidden_dim=draw(st.integers(1, 90)),
        n_layers=draw(st.integers(1, 3)),
        n_heads=heads,
        n_kv_heads=kv_heads,
        vocab_size=draw(st.integers(3, 200)),
        seq_len=draw(st.integers(2, 40)),
        tied=draw(st.booleans()),
    )


DTYPES = st.sampled_from(["float32", "int8", "int4"])
KV_DTYPES = st.sampled_from(["float32", "float16", "int8"])


@settings(deadline=None, max_examples=60)
@given(shape=shapes(), seed=st.integers(0, 2**32 - 1), dtype=DTYPES, kv_dtype=KV_DTYPES)
def test_threads(shape: Shape, seed: int, dtype: str, kv_dtype: str) -> None:
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape, seed))
    ids = np.random.default_rng(seed).integers(0, shape.vocab_size, shape.seq_len)
    logits, stories = [], []
    for threads in (1, 2, 5):
        with Model(data, tokenizer=False, dtype=dtype, kv_dtype=kv_dtype, threads=threads) as model:
            assert model.threads == threads
            logits.append(model.logits(ids).tobytes())
            story = model.generate([1], seed=seed, temperature=1.5, top_p=1.0)
            story.wait()
            stories.append((story.token_ids, story.finish_reason, story.stats.logits_hash))
    assert logits[0] == logits[1] == logits[2]
    assert stories[0] == stories[1] == stories[2]


@settings(deadline=None, max_examples=60)
@given(
    shape=shapes(),
    seed=st.integers(0, 2**32 - 1),
    dtype=DTYPES,
    kv_dtype=KV_DTYPES,
    data=st.data(),
)
def test_all_at_once_and_a_part(
    shape: Shape, seed: int, dtype: str, kv_dtype: str, data: st.DataObject
) -> None:
    """Logits of a prefix are the first rows; of one token after another, the last rows."""
    file = checkpoints.v0(shape, checkpoints.random_tensors(shape, seed))
    ids = [int(i) for i in np.random.default_rng(seed).integers(0, shape.vocab_size, shape.seq_len)]
    cut = data.draw(st.integers(1, len(ids)))
    with Model(file, tokenizer=False, dtype=dtype, kv_dtype=kv_dtype) as model:
        whole = model.logits(ids)
        assert model.logits(ids[:cut]).tobytes() == whole[:cut].tobytes()
        # A generation computes the prompt as one block and then row by row.
        story = model.generate(ids[:cut], temperature=0, stop_tokens=[], min_new_tokens=10**6)
        story.wait()
        everything = [*ids[:cut], *story.token_ids]
        last = model.logits(everything[-1 - shape.seq_len : -1])[-1]
        assert story.stats.logits_hash == fnv1a(last.tobytes())


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


REPORT = """
import hashlib, sys, tinyzh
for path in sys.argv[1:]:
    for dtype, kv in (("float32", "auto"), ("int8", "auto"), ("int4", "auto"), ("float32", "int8")):
        with tinyzh.Model(path, tokenizer=False, dtype=dtype, kv_dtype=kv) as model:
            bits = hashlib.sha256(model.logits(range(model.config.seq_len)).tobytes()).hexdigest()
            story = model.generate([1], seed=5, temperature=1.2, top_p=0.95)
            story.wait()
            print(dtype, kv, model.config.dim, bits, story.token_ids)
print("isa", model.isa)
"""


def report(paths: list[Path], isa: str) -> tuple[str, str]:
    """What a process with this instruction set computes, and which one it says it used."""
    run = subprocess.run(
        [sys.executable, "-c", REPORT, *map(str, paths)],
        env={**os.environ, "TINYZH_ISA": isa},
        capture_output=True,
        text=True,
        check=True,
    )
    results, _, used = run.stdout.rpartition("isa ")
    return results, used.strip()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bits")
    found = []
    for i, shape in enumerate(
        [
            Shape(2, 1, 1, 1, 1, 4, 4),
            Shape(30, 41, 2, 5, 1, 50, 33),
            Shape(64, 172, 3, 8, 4, 512, 64),
            Shape(40, 63, 3, 4, 2, 300, 300, tied=False),
            Shape(256, 129, 1, 2, 1, 100, 24),
        ]
    ):
        tensors = checkpoints.random_tensors(shape, seed=i)
        found.append(checkpoints.save(folder / f"{i}.bin", checkpoints.v0(shape, tensors)))
        if shape.dim == 64:
            data = checkpoints.v2(shape, tensors, 32)  # straddling
            found.append(checkpoints.save(folder / f"{i}_v2.bin", data))
    return found


def test_instruction_sets(files: list[Path]) -> None:
    names = _core.instruction_sets()
    assert names[-1] == "scalar"
    expected, used = report(files, "scalar")
    assert used == "scalar"
    assert expected.count("\n") == 4 * len(files)
    for name in names[:-1]:
        found, used = report(files, name)
        assert used == name
        assert found == expected, f"{name} and scalar disagree"


def test_an_unknown_instruction_set(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYZH_ISA", "avx9")
    with pytest.raises(BackendError, match=r"'avx9'.*TINYZH_ISA.*scalar"):
        Model(tiny_path)


@pytest.mark.parametrize("value", ["0", "257", "two", "2x", "-1"])
def test_a_wrong_number_of_threads_in_the_environment(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TINYZH_THREADS", value)
    with pytest.raises(ValueError, match=rf"TINYZH_THREADS is {value}: .*from 1 to 256"):
        Model(tiny_path)


def test_threads_from_the_environment(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYZH_THREADS", "3")
    with Model(tiny_path) as model, Model(tiny_path, threads=2) as explicit:
        assert (model.threads, explicit.threads) == (3, 2)


def test_what_else_runs_changes_nothing(tiny: Model) -> None:
    """One seed, one story: alone, among others, and with scoring between its steps."""
    alone = [tiny.generate("从前", seed=s).read() for s in range(1, 9)]
    together = [tiny.generate("从前", seed=s) for s in range(1, 9)]
    tiny.score("小兔子住在森林里")
    assert [story.read() for story in together] == alone
    assert len(set(alone)) == 8
    digest = hashlib.sha256(tiny.logits([1, 2, 3]).tobytes())
    running = tiny.generate("从前", seed=1)
    assert hashlib.sha256(tiny.logits([1, 2, 3]).tobytes()).digest() == digest.digest()
    assert running.read() == alone[0]
