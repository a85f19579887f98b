"""Sampling parameters: each is checked, and each does what docs/sampling.md says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import checkpoints
import llama2c
import numpy as np
import pytest
import reference
import tinyzh
from checkpoints import Shape
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import byte_ids, char_ids
from tinyzh import GenerationError, InvalidArgument, Model, SamplingParams

Teller = Callable[[Sequence[int]], Model]
NAN, INFINITY = float("nan"), float("inf")

# ---- checked ------------------------------------------------------------------------------------

#: name, value, what the message must say of the range
WRONG: list[tuple[str, Any, str]] = [
    *[("temperature", v, "a number from 0 up to 1000") for v in (-0.1, 1001, NAN, INFINITY, "1")],
    *[("top_p", v, "a number more than 0 up to 1") for v in (0, -1, 1.01, NAN, None)],
    *[("top_k", v, "an integer from 0 to 2147483647") for v in (-1, 2**31, 1.0, True)],
    *[("min_p", v, "a number from 0 up to 1") for v in (-0.1, 1.1, NAN)],
    *[("repetition_penalty", v, "from 0.01 up to 100") for v in (0, 1e-46, -1, 100.5, INFINITY)],
    *[("presence_penalty", v, "from -100 up to 100") for v in (-100.5, 101, NAN)],
    *[("frequency_penalty", v, "from -100 up to 100") for v in (-100.5, 101, True)],
    ("logit_bias", {5: 101}, "logit_bias of token 5 is 101: expected a number from -100 up to 100"),
    ("logit_bias", {-1: 1}, "a token of logit_bias is -1: expected an integer from 0"),
    ("logit_bias", {"a": 1}, "a token of logit_bias is 'a'"),
    ("logit_bias", [(1, 2)], "expected a mapping"),
    *[("bad_words", v, "expected a string or a list of strings") for v in (3, [3], {"a"})],
    *[("stop", v, "expected a string or a list of strings") for v in (3, [b"x"], None)],
    ("bad_words", [""], "an empty string"),
    ("stop", "", "an empty string"),
    ("stop_tokens", 5, "expected a list of token ids"),
    ("stop_tokens", "ab", "expected a list of token ids"),
    ("stop_tokens", [-1], "a token of stop_tokens is -1: expected an integer from 0"),
    *[("min_new_tokens", v, "an integer from 0 to") for v in (-1, 0.5, None)],
    *[("max_new_tokens", v, "an integer from 0 to") for v in (-1, 2**31, "10")],
    *[("logprobs", v, "an integer from 0 to") for v in (-1, True)],
    *[("seed", v, "an integer from 0 to 18446744073709551615") for v in (-1, 2**64, 1.5)],
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_value_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        SamplingParams(**{name: value})
    assert name in str(raised.value)
    assert message in str(raised.value)
    if not isinstance(value, (list, dict, str)):
        assert repr(value) in str(raised.value)


@pytest.mark.parametrize(("name", "value", "message"), [w for w in WRONG if w[1] is not None])
def test_generate_checks_too(tiny: Model, name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=name):
        tiny.generate("从前", **{name: value})


def test_tokens_outside_of_the_vocabulary(tiny: Model) -> None:
    last = tiny.config.vocab_size - 1
    for changes in ({"logit_bias": {last + 1: 1}}, {"stop_tokens": [last + 1]}):
        with pytest.raises(InvalidArgument, match=rf"{last + 1}.*from 0 to {last}"):
            tiny.generate("从前", **changes)


def test_params_are_frozen_and_keep_their_own_copies() -> None:
    bias, stop_tokens = {5: 1.0}, [7]
    params = SamplingParams(logit_bias=bias, stop_tokens=stop_tokens, stop=["a"], bad_words="b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.temperature = 1  # type: ignore[misc]
    bias[6] = 2.0
    stop_tokens.append(8)
    assert params.logit_bias == {5: 1.0}
    assert params.stop_tokens == (7,)
    assert (params.stop, params.bad_words) == (("a",), ("b",))


def test_numbers_of_numpy_are_numbers() -> None:
    params = SamplingParams(temperature=np.float32(0.5), top_k=np.int64(3), seed=np.uint64(2**63))
    assert (params.temperature, params.top_k, params.seed) == (0.5, 3, 2**63)
    assert type(params.seed) is int


def test_but_changes_what_it_is_given_and_nothing_else() -> None:
    params = SamplingParams(temperature=0.5, seed=3)
    changed = params.but(top_k=4, temperature=None)
    assert changed == SamplingParams(temperature=0.5, seed=3, top_k=4)
    with pytest.raises(InvalidArgument, match=r"unknown parameter 'heat': expected .*temperature"):
        params.but(heat=1)


def test_arguments_replace_fields_of_params(tiny: Model) -> None:
    params = SamplingParams(seed=5, max_new_tokens=20, temperature=2.0)
    assert (
        tiny.generate("从", params=params).read()
        == tiny.generate("从", seed=5, max_new_tokens=20, temperature=2.0).read()
    )
    story = tiny.generate("从", params=params, max_new_tokens=3)
    story.wait()
    assert len(story.token_ids) == 3


# ---- the whole way from logits to a token, again ------------------------------------------------


def penalised(logits: np.ndarray, params: SamplingParams, seen: list[int], new: list[int]) -> Any:
    x = logits.astype(np.float32).copy()
    for token, bias in (params.logit_bias or {}).items():
        x[token] += np.float32(bias)
    penalty = np.float32(params.repetition_penalty)
    for token in set(seen):  # Hugging Face's rule
        x[token] = x[token] / penalty if x[token] > 0 else x[token] * penalty
    for token in set(new):
        x[token] -= np.float32(params.presence_penalty) + np.float32(
            params.frequency_penalty
        ) * np.float32(new.count(token))
    return x


def choose(logits: np.ndarray, params: SamplingParams, random: llama2c.Random) -> int:
    if params.temperature == 0:
        return int(logits.argmax())
    scaled = logits / np.float32(params.temperature)
    e = np.exp(scaled - scaled.max())
    p = e / np.cumsum(e)[-1]
    coin = random.coin()
    if not (params.top_k or params.min_p or params.top_p < 1):
        return llama2c.first(coin < np.cumsum(p), len(p) - 1)
    ids = np.arange(len(p))
    order = ids[np.lexsort((ids, -p))]
    order = order[: params.top_k or len(p)]
    order = order[p[order] >= np.float32(params.min_p) * p[order[0]]]
    kept = np.cumsum(p[order])
    alone = not (params.top_k or params.min_p)
    mass = np.float32(1) if alone else kept[-1]
    end = len(order) - 1
    if params.top_p < 1:
        end = llama2c.first(kept > np.float32(params.top_p) * mass, end)
    return int(order[llama2c.first(coin * kept[end] < kept[: end + 1], end)])


PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0, 0.2, 0.9, 1, 3]),
    top_p=st.sampled_from([1, 0.9, 0.5, 0.01]),
    top_k=st.sampled_from([0, 1, 2, 7, 1000]),
    min_p=st.sampled_from([0, 0.05, 0.5, 1]),
    repetition_penalty=st.sampled_from([1, 1.3, 0.7, 5]),
    presence_penalty=st.sampled_from([0, 0.5, -1, 3]),
    frequency_penalty=st.sampled_from([0, 0.4, -0.3]),
    logit_bias=st.none() | st.dictionaries(st.integers(0, 289), st.floats(-5, 5, width=32)),
    seed=st.integers(1, 2**64 - 1),
)


@settings(deadline=None, max_examples=150)
@given(params=PARAMS)
def test_every_combination_gives_the_documented_token(tiny: Model, params: SamplingParams) -> None:
    prompt = [1, *char_ids("从前有一")]
    story = tiny.generate(prompt, params=params, max_new_tokens=25)
    story.wait()
    new = story.token_ids
    logits = tiny.logits([*prompt, *new])
    random = llama2c.Random(params.seed or 0)
    ends = (1, 2)
    told = [*new, None] if story.finish_reason == "stop" else new
    for n, token in enumerate(told):
        row = logits[len(prompt) - 1 + n]
        expected = choose(penalised(row, params, prompt + new[:n], new[:n]), params, random)
        assert expected == token or (token is None and expected in ends), n


# ---- one by one ---------------------------------------------------------------------------------


def told(model: Model, **changes: Any) -> list[int]:
    story = model.generate(
        [1], **{"seed": 11, "min_new_tokens": 60, "max_new_tokens": 60} | changes
    )
    story.wait()
    assert story.finish_reason == "length"
    return story.token_ids


def test_filters_narrow_the_choice(tiny: Model) -> None:
    greedy = told(tiny, temperature=0)
    wild = told(tiny, temperature=3, top_p=1)
    assert wild != greedy
    for changes in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-6}, {"temperature": 1e-38}):
        assert told(tiny, **{"temperature": 3} | changes) == greedy, changes
    for k in (2, 5):
        ids = told(tiny, temperature=3, top_p=1, top_k=k)
        logits = tiny.logits([1, *ids])[:-1]
        logits[:, [1, 2]] = -np.inf  # min_new_tokens takes the ends away first
        best = np.argsort(-logits, axis=1)[:, :k]
        assert all(i in row for i, row in zip(ids, best.tolist(), strict=True))
        assert any(i != row[0] for i, row in zip(ids, best.tolist(), strict=True))


def test_penalties_make_tokens_new(tiny: Model) -> None:
    plain = told(tiny, temperature=0)
    for name, value in {"repetition_penalty": 50, "presence_penalty": 100}.items():
        ids = told(tiny, temperature=0, **{name: value})
        assert len(set(ids)) > len(set(plain)), name
    assert len(set(told(tiny, temperature=0, presence_penalty=100))) == 60
    counts = np.bincount(told(tiny, temperature=0, frequency_penalty=100))
    assert counts.max() == 1
    assert len(set(told(tiny, temperature=0, frequency_penalty=-100))) == 1


def test_logit_bias_forces_and_forbids(tiny: Model) -> None:
    assert set(told(tiny, temperature=1, logit_bias={270: 100})) == {270}
    favourite = told(tiny, temperature=0)[0]
    assert favourite not in told(tiny, temperature=0, logit_bias={favourite: -100})


def test_everything_forbidden_is_an_error(tmp_path: Path) -> None:
    shape = Shape(8, 8, 1, 1, 1, 5, 8)
    pieces = [(b"<unk>", 0.0), (b"<s>", 0.0), (b"</s>", 0.0), (b"a", 0.0), (b"b", 0.0)]
    checkpoints.save(tmp_path / "tokenizer.bin", checkpoints.tokenizer_bin(pieces))
    data = checkpoints.v0(shape, checkpoints.random_tensors(shape))
    with Model(checkpoints.save(tmp_path / "model.bin", data)) as model:
        words = [piece.decode() for piece in model.tokenizer.pieces if piece]
        story = model.generate([1], bad_words=words, min_new_tokens=1)
        with pytest.raises(GenerationError, match="every one of the 5 tokens is banned"):
            story.read()
        assert story.finish_reason == "error"
        # An end is no word: without min_new_tokens the story is over at once.
        assert model.generate([1], bad_words=words).read() == ""


def test_bad_words_never_appear(tiny: Model) -> None:
    """However they are cut into tokens: here two of them are made of several, one of bytes too."""
    bias = dict.fromkeys([*char_ids("abcd从前"), *byte_ids("从前".encode())], 6.0)
    words = ["abc", "ba", "从前", "dd"]
    found = dict.fromkeys(words, 0)
    for seed in range(1, 13):
        settings_ = {"seed": seed, "temperature": 2.0, "top_p": 1.0, "logit_bias": bias}
        free = tiny.generate("", **settings_).read()
        for word in words:
            found[word] += word in free
            found[word] += (
                word
                in tiny.generate("", bad_words=[w for w in words if w != word], **settings_).read()
            )
        held = tiny.generate("", bad_words=words, **settings_).read()
        assert not any(word in held for word in words), held
    assert all(found.values()), f"a word that never appeared anyway proves nothing: {found}"


def test_stop_strings_across_tokens(tell: Teller) -> None:
    model = tell([*char_ids("从前有一只小"), *byte_ids("兔".encode()), *char_ids("子，它")])
    assert model.generate("", temperature=0).read() == "从前有一只小兔子，它"
    for stop, expected in {
        "有一只": "从前",
        "兔子": "从前有一只小",
        "只小兔": "从前有一",
        "从": "",
        "它": "从前有一只小兔子，",
        "它们": "从前有一只小兔子，它",
        "没有": "从前有一只小兔子，它",
    }.items():
        story = model.generate("", temperature=0, stop=stop)
        pieces = list(story)
        assert "".join(pieces) == story.text == expected
        assert story.finish_reason == "stop"
        assert all(pieces)
    assert model.generate("", temperature=0, stop=["小", "前有"]).read() == "从"


def test_stop_tokens_end_the_story(tell: Teller) -> None:
    model = tell(char_ids("从前有一只"))
    (one,) = char_ids("一")
    story = model.generate("", temperature=0, stop_tokens=[one])
    assert story.read() == "从前有"
    assert (story.finish_reason, story.token_ids) == ("stop", char_ids("从前有"))


def test_min_new_tokens_puts_off_the_end(tell: Teller) -> None:
    model = tell(char_ids("从前"))
    story = model.generate("", temperature=0, min_new_tokens=3, max_new_tokens=10)
    story.wait()
    assert story.token_ids[:2] == char_ids("从前")
    assert len(story.token_ids) >= 3
    assert not {1, 2} & set(story.token_ids[:3])


@pytest.mark.parametrize(("most", "text"), [(0, ""), (1, "从"), (2, "从前"), (3, "从前有")])
def test_max_new_tokens(tell: Teller, most: int, text: str) -> None:
    story = tell(char_ids("从前有一只")).generate("", temperature=0, max_new_tokens=most)
    assert story.read() == text
    assert (story.finish_reason, len(story.token_ids)) == ("length", most)


@pytest.mark.parametrize("n", [0, 1, 5, 10**6])
def test_logprobs_are_those_of_the_raw_logits(tiny: Model, n: int) -> None:
    """Whatever the penalties, filters and temperature."""
    story = tiny.generate([1], seed=3, temperature=2, top_k=40, repetition_penalty=1.5, logprobs=n)
    text = story.read()
    entries = story.logprobs
    assert [e.token_id for e in entries] == story.token_ids
    rows = reference.log_softmax(tiny.logits([1, *story.token_ids][:128]).astype(np.float64))
    for entry, row in zip(entries, rows, strict=False):
        assert entry.logprob == pytest.approx(row[entry.token_id], abs=1e-5)
        assert len(entry.top) == min(n, len(row))
        ranks = np.lexsort((np.arange(len(row)), -row))[: len(entry.top)]
        assert [p for _, p in entry.top] == pytest.approx(row[ranks].tolist(), abs=1e-5)
        assert [p for _, p in entry.top] == sorted((p for _, p in entry.top), reverse=True)
        if n == 1:
            assert entry.top[0][0] == ranks[0]
    assert b"".join(e.bytes for e in entries).decode("utf-8", "replace").removeprefix(" ") == text


def test_no_logprobs_unless_asked(tiny: Model) -> None:
    story = tiny.generate("从", max_new_tokens=3)
    story.wait()
    assert story.logprobs == []


# ---- seeds --------------------------------------------------------------------------------------


def test_a_seed_tells_one_story(tiny: Model) -> None:
    def text(seed: int) -> str:
        story = tiny.generate("从前", seed=seed, temperature=1.5)
        assert story.seed == seed
        return story.read()

    seeds = [0, 1, 2, 3, 2**32, 2**63, 2**64 - 1]
    stories = [text(seed) for seed in seeds]
    assert stories == [text(seed) for seed in seeds]
    assert len(set(stories)) == len(seeds)


def test_without_a_seed_each_story_is_new_and_can_be_told_again(tiny: Model) -> None:
    stories = [tiny.generate("从前", temperature=1.5) for _ in range(5)]
    assert len({story.seed for story in stories}) == 5
    assert all(0 < story.seed < 2**64 for story in stories)
    for story in stories:
        assert story.read() == tiny.generate("从前", temperature=1.5, seed=story.seed).read()


def test_the_seed_of_the_i_th_story() -> None:
    top = 2**64 - 1
    for seed, i, expected in [
        (5, 0, 5),
        (5, 3, 8),
        (0, 0, 0),
        (0, 1, 1),
        (top, 0, top),
        (top, 1, 1),
    ]:
        assert SamplingParams(seed=seed).plus_seed(i).seed == expected
    with pytest.raises(InvalidArgument, match="with_seed"):
        SamplingParams().plus_seed(1)
    assert tinyzh.SamplingParams().with_seed().seed
