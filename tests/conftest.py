"""What several test files need: models to open, and where the real ones are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import checkpoints
import numpy as np
import pytest
import tinyzh
from checkpoints import Shape

ROOT = Path(__file__).resolve().parents[1]
REAL_MODELS = ROOT.parent / "shared" / "models"

#: The characters of the small model's vocabulary, behind 259 ids for <unk>, BOS, EOS and the bytes.
CHARACTERS = " 从前有一只小兔子，它住在森林里。“”！？天地abcdefgh"
TINY = Shape(32, 61, 2, 4, 2, 259 + len(CHARACTERS), 128, tied=False)
#: Slow enough for something to happen while it runs: about half a second for its whole context.
SLOW = Shape(256, 700, 4, 8, 8, 259 + len(CHARACTERS), 1024, tied=False)


Teller = Callable[[Sequence[int]], tinyzh.Model]


def byte_ids(data: bytes) -> list[int]:
    """The byte tokens of the small vocabulary."""
    return [3 + byte for byte in data]


def char_ids(text: str) -> list[int]:
    """Its character tokens."""
    return [259 + CHARACTERS.index(c) for c in text]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than about two seconds")


def write_model(folder: Path, shape: Shape, seed: int = 7) -> Path:
    """A checkpoint with random weights, and its tokenizer beside it."""
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape, seed))
    pieces = checkpoints.byte_pieces(CHARACTERS)
    checkpoints.save(folder / "tokenizer.bin", checkpoints.tokenizer_bin(pieces))
    return checkpoints.save(folder / "model.bin", data)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"), TINY)


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Iterator[tinyzh.Model]:
    """A model of random weights that babbles; with byte tokens, so that anything can be forced."""
    with tinyzh.Model(tiny_path) as model:
        yield model


@pytest.fixture(scope="session")
def slow_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("slow"), SLOW)


@pytest.fixture
def slow(slow_path: Path) -> Iterator[tinyzh.Model]:
    """One that can be caught in the act."""
    with tinyzh.Model(slow_path) as model:
        yield model


@pytest.fixture(scope="session")
def tell(tiny_path: Path) -> Teller:
    """``tell(ids)``: a model that says exactly these tokens after BOS, and then EOS.

    Its layers add nothing; token i is the unit vector i, and the classifier's row of its successor
    answers to that vector.  So no token may come twice.
    """
    tokenizer = tinyzh.BinTokenizer(tiny_path.with_name("tokenizer.bin"))

    def make(ids: Sequence[int]) -> tinyzh.Model:
        chain = [1, *ids, 2]
        assert len(set(chain)) == len(chain), "a token has one successor"
        size = TINY.vocab_size
        shape = Shape(size, 1, 1, 1, 1, size, 128, tied=False)
        tensors = {name: np.zeros(s, np.float32) for name, s in shape.tensors().items()}
        tensors["rms_final"][:] = 1
        tensors["tok_emb"] = np.eye(size, dtype=np.float32)
        tensors["wcls"][chain[1:], chain[:-1]] = 1
        return tinyzh.Model(checkpoints.v0(shape, tensors), tokenizer=tokenizer)

    return make


@pytest.fixture(scope="session")
def real() -> Callable[..., tinyzh.Model]:
    """``real("stories260K.bin")`` opens a real model, or skips the test where it is not."""
    opened: dict[tuple[str, str], tinyzh.Model] = {}

    def open_real(name: str, dtype: str = "auto") -> tinyzh.Model:
        path = REAL_MODELS / name
        if not path.exists():
            pytest.skip(f"{name} is not in {REAL_MODELS}")
        if (name, dtype) not in opened:
            tokenizer = "poem_zh_tok2048.bin" if name.startswith("poem") else "tok512.bin"
            opened[name, dtype] = tinyzh.Model(
                path, dtype=dtype, tokenizer=path.with_name(tokenizer)
            )
        return opened[name, dtype]

    return open_real
