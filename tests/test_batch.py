"""Several sequences in step have the logits of each alone."""

from __future__ import annotations

import numpy as np
import pytest
import tinyzh
from tinyzh import _core
from tinyzh.errors import ContextFull, InvalidArgument


@pytest.fixture(scope="module", params=["float32", "int8", "int4"])
def model(request: pytest.FixtureRequest) -> tinyzh.Model:
    return tinyzh.Model(dtype=request.param) if request.param != "int8" else tinyzh.Model()


def test_a_stream_has_the_logits_it_has_alone(model: tinyzh.Model) -> None:
    prompt, tokens = [1, 300, 500, 700], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    batch = _core.Batch(model._core, 3)
    batch.prefill(prompt)
    for step, row in enumerate(tokens):
        found = batch.step(row)
        for stream in range(3):
            ids = prompt + [r[stream] for r in tokens[: step + 1]]
            assert found[stream].tobytes() == model.logits(ids)[-1].tobytes()


def test_more_streams_than_rows_of_a_pass(model: tinyzh.Model) -> None:
    batch = _core.Batch(model._core, 300)
    logits = batch.step([5 + i % 7 for i in range(300)])
    assert logits.shape == (300, model.config.vocab_size)
    for i in range(7):
        assert (logits[i::7] == logits[i]).all()
    assert not np.array_equal(logits[0], logits[1])


def test_what_does_not_fit_is_refused(model: tinyzh.Model) -> None:
    for streams in (0, 4097):
        with pytest.raises(InvalidArgument, match=f"streams is {streams}: expected 1 to 4096"):
            _core.Batch(model._core, streams)
    batch = _core.Batch(model._core, 2)
    with pytest.raises(InvalidArgument, match="1 tokens for 2 streams"):
        batch.step([1])
    for token in (-1, model.config.vocab_size):
        with pytest.raises(InvalidArgument, match=f"token {token} is outside the vocabulary"):
            batch.step([1, token])
    with pytest.raises(ContextFull, match="above the context of 512"):
        batch.prefill([1] * 513)
    batch.prefill([1] * 512)
    with pytest.raises(ContextFull, match="512 positions and 1 more"):
        batch.step([1, 1])
