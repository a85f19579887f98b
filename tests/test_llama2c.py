"""The same seed tells the story that llama2.c's ``run`` tells."""

from __future__ import annotations

from collections.abc import Callable

import llama2c
import numpy as np
import pytest
import tinyzh
from tinyzh import Model

OpenReal = Callable[..., Model]
SEEDS = [1, 2, 3, 42, 1234567, 2**31, 2**63 + 5, 2**64 - 1]
SETTINGS = [(0.0, 0.9), (0.3, 0.9), (0.9, 0.9), (1.0, 1.0), (1.0, 0.05), (2.0, 0.99), (5.0, 1.0)]


def assert_same_tokens(model: Model, prompt: list[int], steps: int) -> None:
    """Each token is the one that llama2.c draws from the logits after those before it."""
    for temperature, top_p in SETTINGS:
        for seed in SEEDS:
            story = model.generate(
                prompt, temperature=temperature, top_p=top_p, seed=seed, max_new_tokens=steps
            )
            story.wait()
            new = story.token_ids
            logits = model.logits([*prompt, *new][: model.config.seq_len])
            random = llama2c.Random(seed)
            for n, token in enumerate(new):
                expected = llama2c.choose(logits[len(prompt) - 1 + n], temperature, top_p, random)
                assert token == expected, (temperature, top_p, seed, n)
            if len(new) < steps:
                end = llama2c.choose(logits[len(prompt) + len(new) - 1], temperature, top_p, random)
                assert end in (1, 2), "the story ended where llama2.c goes on"
                assert story.finish_reason == "stop"


def test_the_built_in_model() -> None:
    with tinyzh.Model() as model:
        # From 从前, one draw of 800 is so near the border of two tokens that a last bit decides.
        assert_same_tokens(model, model.tokenizer.encode("有一天"), steps=25)


@pytest.mark.parametrize("name", ["stories260K.bin", "stories260K_q80.bin", "poem_zh_750k.bin"])
def test_real_models(real: OpenReal, name: str) -> None:
    assert_same_tokens(real(name), [1], steps=40)


def test_a_random_model_whole_context(tiny: Model) -> None:
    assert_same_tokens(tiny, [1, 270, 271], steps=tiny.config.seq_len - 3)


def test_token_by_token(real: OpenReal) -> None:
    """Without any help from the story told: logits of the tokens so far, one more token, again."""
    model = real("stories260K.bin")
    tokens = llama2c.continue_ids(model.logits, [1], temperature=0.8, top_p=0.95, seed=99, steps=50)
    story = model.generate([1], temperature=0.8, top_p=0.95, seed=99, max_new_tokens=50)
    story.wait()
    assert story.token_ids == tokens


def test_greedy_story_of_the_reference_program(real: OpenReal) -> None:
    text = real("stories260K.bin").generate("", temperature=0, max_new_tokens=200).read()
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
        "park. One day, she saw a big, red ball. She wanted to play with it, but it was too high."
    )


def test_the_random_numbers_are_those_of_xorshift64star() -> None:
    """Written out once by hand for the seed 1, against a slip that both sides would share."""
    state = 1
    state ^= state >> 12  # 1
    state ^= state << 25  # 2^25 + 1
    state ^= state >> 27  # 2^25 + 1
    assert state == 33554433
    u32 = (33554433 * 2685821657736338717 % 2**64) >> 32
    coin = llama2c.Random(1).coin()
    assert coin == np.float32((u32 >> 8) / 16777216)
