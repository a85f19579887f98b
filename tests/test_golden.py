"""One seed, one story, for ever: tokens in golden/*.json, written by golden/make.py."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import tinyzh

GOLDEN = Path(__file__).with_name("golden")
REMAKE = "run: python tests/golden/make.py"

_spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
assert _spec is not None
assert _spec.loader is not None
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


def read(name: str) -> dict[str, Any]:
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} is not made yet; {REMAKE} {name}")
    checkpoint = make.MODELS[name][0]
    if not checkpoint.exists():
        pytest.skip(f"{checkpoint.name} is not in {checkpoint.parent}")
    golden: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert golden["numerics_version"] == tinyzh.numerics_version, f"{path.name}: {REMAKE}"
    assert golden["sha256"] == make.sha256(checkpoint), f"{checkpoint.name} changed; {REMAKE}"
    return golden


@pytest.mark.parametrize("name", make.MODELS)
def test_golden(name: str) -> None:
    golden = read(name)
    checkpoint, tokenizer, _ = make.MODELS[name]
    with tinyzh.Model(checkpoint, tokenizer=tokenizer) as model:
        for case in golden["cases"]:
            assert model.tokenizer.encode(case["prompt"]) == case["prompt_ids"]
        stories = [
            model.generate(
                case["prompt"],
                temperature=case["temperature"],
                top_p=case["top_p"],
                seed=case["seed"],
                max_new_tokens=case["steps"],
            )
            for case in golden["cases"]
        ]
        for case, story in zip(golden["cases"], stories, strict=True):
            text = story.read()
            assert (story.token_ids, text) == (case["token_ids"], case["text"]), case["prompt"]


def test_the_settings_tell_different_stories() -> None:
    """So that the files cannot hold one thing many times over."""
    golden = read("stories260K")
    told = [tuple(case["token_ids"]) for case in golden["cases"]]
    assert len(set(told)) == len(told)
