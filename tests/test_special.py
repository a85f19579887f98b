"""What begins and ends a text: carried from the file to every prompt and end, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_models import CHARACTERS
from tinyzh import BinTokenizer, Model, SentencePieceTokenizer, Special
from tinyzh.special import LLAMA2C

DATA = Path(__file__).with_name("data")
OTHER = Special.of(5, 6, 7)


def test_bos_is_an_end_too() -> None:
    assert Special.of(1, 2) == LLAMA2C == Special()
    assert Special.of(0, 0) == Special(bos=0, ends=(0,))
    assert (Special.of(0, 0).eos, LLAMA2C.eos, OTHER.eos) == (0, 2, 6)


@pytest.mark.parametrize("name", ["zh.model", "zh.bin"])
def test_a_tokenizer_puts_it_around_a_text(name: str) -> None:
    def opened(special: Special = LLAMA2C) -> BinTokenizer | SentencePieceTokenizer:
        path = DATA / name
        if name.endswith("bin"):
            return BinTokenizer(path, special=special)
        return SentencePieceTokenizer(path, special=special)

    ids = opened().encode("从前", bos=False)
    assert opened().encode("从前", eos=True) == [1, *ids, 2]
    assert opened(OTHER).encode("从前", eos=True) == [5, *ids, 6]
    silent = opened(Special(add_bos=False))
    assert silent.encode("从前") == ids
    assert silent.encode("") == [1]  # a model needs something to go on from
    assert silent.encode("", bos=False) == []


def test_a_model_takes_what_its_tokenizer_has_where_the_file_says_nothing(tiny_path: Path) -> None:
    own = BinTokenizer(tiny_path.with_name("tokenizer.bin"), special=OTHER)
    with Model(tiny_path, tokenizer=own) as model:
        assert model.special == OTHER
        assert model.tokenizer.encode("从")[0] == 5
        story = model.generate("从", logit_bias={7: 100})
        assert story.read() == ""
        assert (story.token_ids, story.finish_reason) == ([], "stop")
    with Model(tiny_path) as model:
        assert model.special == LLAMA2C
        story = model.generate("从", logit_bias={7: 100}, max_new_tokens=2)
        story.wait()
        assert story.token_ids == [7, 7]


def test_a_text_is_scored_behind_bos_also_where_none_is_put_before_it(tiny_path: Path) -> None:
    silent = BinTokenizer(tiny_path.with_name("tokenizer.bin"), special=Special(add_bos=False))
    text = CHARACTERS.strip()[:5]
    with Model(tiny_path) as model, Model(tiny_path, tokenizer=silent) as other:
        assert other.score(text) == model.score(text)
