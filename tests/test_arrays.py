"""NumPy in and out: models of arrays, weights as arrays, every intermediate by name."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable
from typing import Any

import checkpoints
import numpy as np
import pytest
import reference
import tinyzh
from checkpoints import Shape
from tinyzh import Config, ContextFull, InvalidArgument, Model
from tinyzh.weights import shapes

SHAPE = Shape(48, 61, 3, 6, 2, 70, 64, tied=False)
CONFIG = Config(48, 61, 3, 6, 2, 70, 64, False)
IDS = [1, 5, 69, 33, 7, 7, 20]


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return dict(checkpoints.random_tensors(SHAPE, seed=9))


@pytest.fixture
def model(tensors: dict[str, np.ndarray]) -> Model:
    return Model.from_arrays(CONFIG, tensors)


# ---- models of arrays --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "int8", "int4"])
def test_the_bits_of_the_file(tensors: dict[str, np.ndarray], dtype: str) -> None:
    with Model(checkpoints.v0(SHAPE, tensors), tokenizer=False, dtype=dtype) as file:
        expected = file.logits(IDS).tobytes()
    with Model.from_arrays(CONFIG, tensors, dtype=dtype) as model:
        assert model.dtype == dtype
        assert model.format == "arrays"
        assert model.logits(IDS).tobytes() == expected
        assert model.parameters == sum(array.size for array in tensors.values())


def test_layers_one_by_one_and_other_types(tensors: dict[str, np.ndarray]) -> None:
    with Model.from_arrays(CONFIG, tensors) as model:
        expected = model.logits(IDS).tobytes()
        with Model.from_arrays(model.config, model.weights) as again:
            assert again.logits(IDS).tobytes() == expected
    mixed = {name: array.astype(np.float64) for name, array in tensors.items()}
    mixed["w1"] = np.asfortranarray(mixed["w1"])
    mixed |= {f"layers.{i}.wq": layer for i, layer in enumerate(mixed.pop("wq"))}
    with Model.from_arrays(CONFIG, mixed) as model:
        assert model.logits(IDS).tobytes() == expected


def test_float32_is_used_in_place_and_kept(tensors: dict[str, np.ndarray]) -> None:
    own = {name: array.copy() for name, array in tensors.items()}
    kept = weakref.ref(own["wq"])
    model = Model.from_arrays(CONFIG, own)
    assert model.weights["layers.1.wq"].ctypes.data == own["wq"][1].ctypes.data
    expected = model.logits(IDS).tobytes()
    del own
    gc.collect()
    assert kept() is not None
    assert model.logits(IDS).tobytes() == expected
    model.close()
    del model
    gc.collect()
    assert kept() is None, "the arrays go with the model"


def test_quantised_arrays_are_let_go_of(tensors: dict[str, np.ndarray]) -> None:
    own = {name: array.copy() for name, array in tensors.items()}
    kept = weakref.ref(own["wq"])
    model = Model.from_arrays(CONFIG, own, dtype="int8")
    del own
    gc.collect()
    assert kept() is None
    assert model.memory()["file"] == 0
    assert np.isfinite(model.logits(IDS)).all()


def test_eps_and_theta_of_ones_own(tensors: dict[str, np.ndarray]) -> None:
    changed = dataclasses.replace(CONFIG, norm_eps=0.1, rope_theta=500.0)
    with Model.from_arrays(changed, tensors) as model, Model.from_arrays(CONFIG, tensors) as plain:
        assert model.config.rope_theta == 500.0
        assert model.config.norm_eps == 0.1
        assert np.abs(model.logits(IDS) - plain.logits(IDS)).max() > 0.01


def test_a_tokenizer_and_a_story(tiny: Model) -> None:
    with Model.from_arrays(tiny.config, tiny.weights, tokenizer=tiny.tokenizer) as model:
        told = model.generate("从前", temperature=0, max_new_tokens=20)
        assert told.read() == tiny.generate("从前", temperature=0, max_new_tokens=20).read()
        assert repr(model).startswith("<tinyzh.Model from arrays")
    with pytest.raises(tinyzh.TokenizerError, match="from arrays has no tokenizer of its own"):
        Model.from_arrays(tiny.config, tiny.weights, tokenizer=None)


def test_arrays_that_do_not_fit(tensors: dict[str, np.ndarray]) -> None:
    def refused(words: str, config: object = CONFIG, **changes: object) -> None:
        arrays = {n: a for n, a in (tensors | changes).items() if a is not None}
        with pytest.raises(InvalidArgument, match=words):
            Model.from_arrays(config, arrays)  # type: ignore[arg-type]

    refused("arrays has no 'w2'|arrays has no 'layers.0.w2'", w2=None)
    refused(r"w1 has the shape \(3, 61, 47\): expected \(3, 61, 48\)", w1=tensors["w1"][..., :-1])
    refused(r"arrays has 'wx', which this model has no place for", wx=tensors["wq"])
    refused("rms_final is an array of int64: expected float32", rms_final=np.arange(48))
    refused("tok_emb is an array of", tok_emb=[["a"]])
    refused("config is 'CONFIG': expected a tinyzh.Config", config="CONFIG")
    refused("n_heads|shape", config=dataclasses.replace(CONFIG, n_heads=5))
    refused("norm_eps is 2", config=dataclasses.replace(CONFIG, norm_eps=2.0))
    refused("wcls", config=dataclasses.replace(CONFIG, tied=True))


# ---- weights -----------------------------------------------------------------------------------


def test_weights_by_name(model: Model, tensors: dict[str, np.ndarray]) -> None:
    weights = model.weights
    assert len(weights) == len(list(weights)) == 3 * 9 + 3
    assert next(iter(weights)) == "tok_emb"
    for name, shape in shapes(CONFIG).items():
        if name in weights:
            assert (weights[name] == tensors[name]).all()
            assert weights[name].shape == shape
        else:
            for layer in range(3):
                assert (weights[f"layers.{layer}.{name}"] == tensors[name][layer]).all()
    for missing in ("wq", "layers.3.wq", "layers.-1.wq", "layers.0.tok_emb", ""):
        with pytest.raises(KeyError):
            weights[missing]


def test_weights_cannot_be_written_to_and_outlive_the_model(
    tensors: dict[str, np.ndarray],
) -> None:
    model = Model(checkpoints.v0(SHAPE, tensors), tokenizer=False)
    array = model.weights["layers.2.w3"]
    assert not array.flags.writeable
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    model.close()
    del model
    gc.collect()
    assert (array == tensors["w3"][2]).all()


def test_weights_of_int8_are_what_they_stand_for(tensors: dict[str, np.ndarray]) -> None:
    data = checkpoints.v2(SHAPE, tensors, 16)
    expected = checkpoints.dequantised(tensors, 16)
    with Model(data, tokenizer=False) as model:
        assert model.dtype == "int8"
        assert (model.weights["layers.1.w2"] == expected["w2"][1]).all()
        assert not model.weights["layers.1.w2"].flags.writeable
        assert (model.weights["wcls"] == expected["wcls"]).all()


def test_dlpack(model: Model) -> None:
    assert (np.from_dlpack(model.logits(IDS)) == model.logits(IDS)).all()
    torch = pytest.importorskip("torch", reason="takes arrays by DLPack")
    logits = model.logits(IDS)
    tensor = torch.from_dlpack(logits)
    assert tensor.data_ptr() == logits.ctypes.data
    assert tensor.shape == (len(IDS), CONFIG.vocab_size)


# ---- looking inside ----------------------------------------------------------------------------


def test_trace_has_every_intermediate(model: Model, tensors: dict[str, np.ndarray]) -> None:
    _, expected = reference.forward(tensors, SHAPE, IDS)
    trace, T = model.trace(IDS), len(IDS)
    assert len(trace) == len(list(trace)) == 3 * 12 + 3
    for name, value in expected.items():
        found = trace[name]
        assert np.abs(found.reshape(value.shape) - value).max() < 2e-5 * np.abs(value).max(), name
    assert trace["layers.0.q"].shape == (T, 6, 8)
    assert trace["layers.0.k"].shape == trace["layers.0.v"].shape == (T, 2, 8)
    assert trace["layers.2.gate"].shape == (T, 61)
    assert trace["logits"].tobytes() == model.logits(IDS).tobytes()
    assert list(trace)[:3] == ["layers.0.x", "layers.0.att_norm", "layers.0.q"]
    with pytest.raises(KeyError):
        trace["layers.3.x"]
    with pytest.raises(KeyError, match=r"layers\.3\.attention"):
        trace["layers.3.attention"]


def test_attention_is_what_the_heads_did(model: Model) -> None:
    trace = model.trace(IDS)
    for layer in range(3):
        attention = trace[f"layers.{layer}.attention"]
        assert attention.shape == (6, len(IDS), len(IDS))
        assert attention.dtype == np.float32
        assert np.abs(attention.sum(axis=-1) - 1).max() < 1e-6
        assert (np.triu(attention, 1) == 0).all()
        values = np.repeat(trace[f"layers.{layer}.v"], 3, axis=1).transpose(1, 0, 2)
        heads = (attention @ values).transpose(1, 0, 2).reshape(len(IDS), -1)
        assert np.abs(heads - trace[f"layers.{layer}.att"]).max() < 1e-5


def test_hidden_states(model: Model, tensors: dict[str, np.ndarray]) -> None:
    trace = model.trace(IDS)
    assert (model.hidden_states(IDS, 0) == tensors["tok_emb"][IDS]).all()
    for layer in range(3):
        assert (model.hidden_states(IDS, layer) == trace[f"layers.{layer}.x"]).all()
    last = model.hidden_states(IDS)
    assert (last == trace["x"]).all()
    assert (last == model.hidden_states(IDS, 3)).all()
    assert (model.hidden_states(IDS, -4) == model.hidden_states(IDS, 0)).all()
    assert last.shape == (len(IDS), 48)
    # What the last norm and the classifier make of it.
    normed = last / np.sqrt((last**2).mean(axis=-1, keepdims=True) + 1e-5) * tensors["rms_final"]
    assert np.abs(normed @ tensors["wcls"].T - model.logits(IDS)).max() < 1e-4
    for layer in (4, -5, 1.0, "x"):
        with pytest.raises(InvalidArgument, match="layer is"):
            model.hidden_states(IDS, layer)  # type: ignore[arg-type]
    with pytest.raises(ContextFull):
        model.hidden_states([1] * 65)


def test_embed(tiny: Model) -> None:
    text = "从前有一只小兔子"
    all_of_it = tiny.embed(text, "none")
    assert all_of_it.shape == (len(tiny.tokenizer.encode(text)), 32)
    assert (all_of_it == tiny.trace(text)["final_norm"]).all()
    assert (tiny.embed(text, "last") == all_of_it[-1]).all()
    assert np.allclose(tiny.embed(text), all_of_it[1:].mean(axis=0), atol=1e-6)
    both = tiny.embed([text, "天地"])
    assert both.shape == (2, 32)
    assert (both[0] == tiny.embed(text)).all()
    assert tiny.embed("").shape == (32,)  # BOS alone
    for wrong in ([], [1], [text, 2]):
        with pytest.raises(InvalidArgument, match="text is"):
            tiny.embed(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="expected a text"):
        tiny.embed([text], "none")
    with pytest.raises(InvalidArgument, match="pooling is 'max': expected mean, last or none"):
        tiny.embed(text, "max")


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda m: m.trace([]), r"ids is \[\]: expected at least 1 token id"),
        (lambda m: m.hidden_states([]), r"ids is \[\]: expected at least 1 token id"),
        (lambda m: m.hidden_states([], 0), r"ids is \[\]: expected at least 1 token id"),
        (lambda m: m.trace(7), "ids is 7: expected a list of token ids"),
        (lambda m: m.embed(7), "text is 7: expected a text"),
        (lambda m: m.embed(None), "text is None: expected a text"),
        (lambda m: Model.from_arrays(CONFIG, [1]), r"arrays is \[1\]: expected a mapping of names"),
        (lambda m: Model.from_arrays(CONFIG, None), "arrays is None: expected a mapping of names"),
    ],
)
def test_nothing_and_things_of_another_kind(
    tiny: Model, use: Callable[[Any], object], words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        use(tiny)


def test_looking_takes_text_too(tiny: Model) -> None:
    ids = tiny.tokenizer.encode("从前")
    assert (tiny.trace("从前")["logits"] == tiny.trace(ids)["logits"]).all()
    assert (tiny.hidden_states("从前") == tiny.hidden_states(ids)).all()
