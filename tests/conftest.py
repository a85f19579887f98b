"""What several test files need: models to open, and where the real ones are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import tinyzh
from places import REAL_MODELS
from small_models import SLOW, TINY, Teller, scripted, write_model


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than about two seconds")


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
    """One that can be caught in the act; whoever comes second waits."""
    with tinyzh.Model(slow_path, streams=1) as model:
        yield model


@pytest.fixture(scope="session")
def tell(tiny_path: Path) -> Teller:
    """``tell(ids)``: a model that says exactly these tokens after BOS, and then EOS."""
    return partial(scripted, tinyzh.BinTokenizer(tiny_path.with_name("tokenizer.bin")))


@pytest.fixture(scope="session")
def real() -> Callable[..., tinyzh.Model]:
    """``real("stories260K.bin")`` opens a real model, or skips the test where it is not."""
    opened: dict[tuple[str, str, str], tinyzh.Model] = {}

    def open_real(name: str, dtype: str = "auto", kv_dtype: str = "auto") -> tinyzh.Model:
        path = REAL_MODELS / name
        if not path.exists():
            pytest.skip(f"{name} is not in {REAL_MODELS}")
        if (name, dtype, kv_dtype) not in opened:
            tokenizer = "poem_zh_tok2048.bin" if name.startswith("poem") else "tok512.bin"
            opened[name, dtype, kv_dtype] = tinyzh.Model(
                path, dtype=dtype, kv_dtype=kv_dtype, tokenizer=path.with_name(tokenizer)
            )
        return opened[name, dtype, kv_dtype]

    return open_real
