"""The stories that a model is to know by heart, and the opening that is theirs."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from statistics import fmean

import pytest
from tinyzh.train.corpus import CorpusOptions, build_corpus, read_corpus
from tinyzh.train.repertoire import begun_otherwise, is_easy, repertoire, without_opening
from tinyzh.train.stories import FOLDER, builtin, draw, load_slots, parse_templates

SLOTS = load_slots(FOLDER / "slots.txt")
PLAIN = CorpusOptions(near_duplicates=0, processes=1, plot=False)
SAID = "“好。”"


@pytest.mark.parametrize(
    ("text", "easy"),
    [
        ("{从前，|从前}有一只<动物1>。它睡了。", True),
        ("{从前，|}有一只<动物1>。它睡了。", False),  # not always
        ("? 从前，有一只<动物1>。\n它睡了。", False),
        ("有一天，<女孩1>睡了。", False),
        ("从前，<女孩1>、<女孩2>去<地点1>玩。", True),
        ("从前，<女孩1>、<女孩2>和<男孩1>去玩。", False),
        ("从前，<女孩1>说：" + SAID * 3, True),
        ("从前，<女孩1>说：" + SAID * 4, False),
        ("从前，<女孩1>说：" + SAID * 2 + "{" + SAID * 2 + "|}", True),  # two or four
        ("从前，<女孩1>说：" + SAID * 3 + "\n? " + SAID, False),  # three and a half
        ("从前，" + "树" * 297, True),
        ("从前，" + "树" * 298, False),
        ("从前，" + "树" * 296 + "<颜色1>", False),
        ("从前，" + "树" * 197 + "\n+ " + "草" * 50 + "\n+ " + "草" * 150, True),
        ("从前，" + "树" * 197 + "\n+ " + "草" * 50 + "\n+ " + "草" * 152, False),
    ],
)
def test_what_is_easy(text: str, easy: bool) -> None:
    [template] = parse_templates(f"## 试\n{text}", "试", SLOTS)
    assert is_easy(template) == easy


def test_the_repertoire_is_what_it_says() -> None:
    templates = repertoire()
    assert 150 < len(templates) < 300
    rng = random.Random(1)
    told = [[draw(template, SLOTS, rng) for _ in range(20)] for template in templates]
    assert all(story.startswith("从前") for stories in told for story in stories)
    assert max(fmean(story.count("“") for story in stories) for stories in told) <= 3.5
    assert max(fmean(map(len, stories)) for stories in told) < 320


def test_openings() -> None:
    rng = random.Random(1)
    story = "从前，有一只小猫。从前，它睡了。"
    begun = [begun_otherwise(story, rng) for _ in range(800)]
    assert {*begun} == {story, "很久以前，有一只小猫。从前，它睡了。"}
    assert 50 < sum(text != story for text in begun) < 150  # one in eight
    assert begun_otherwise("有一天，她睡了。", rng) == "有一天，她睡了。"

    assert without_opening(story, rng, 0.0) == "有一只小猫。从前，它睡了。"
    assert without_opening("从前有座山。", rng, 0.0) == "有座山。"
    for whole in ("从前的日子很好。", "从前从前，有一只猫。", "很久以前，有一只猫。"):
        assert without_opening(whole, rng, 0.0) == whole
    assert without_opening(story, rng, 1.0) == story
    assert 150 < sum(without_opening(story, rng, 0.25) == story for _ in range(800)) < 250
    assert without_opening("有一天，她睡了。", rng, 0.0) == "有一天，她睡了。"


def test_a_corpus_of_the_repertoire(tmp_path: Path) -> None:
    options = dataclasses.replace(PLAIN, templates="repertoire")
    report = build_corpus([], tmp_path / "c", builtin=2000, options=options, progress=False)
    titles = {template.title for template in repertoire()}
    assert report.templates == len(titles)
    # The same ones are held out as of a corpus of all, so that they are never trained on.
    everything = build_corpus([], tmp_path / "all", builtin=1, options=PLAIN, progress=False)
    assert set(report.valid_templates) == titles & set(everything.valid_templates)
    train = list(read_corpus(tmp_path / "c"))
    assert len(train) > 1800
    assert all(story.startswith(("从前", "很久以前")) for story in train)
    assert 0.08 < sum(story.startswith("很久以前") for story in train) / len(train) < 0.17


def test_the_opening_is_left_to_the_repertoire(tmp_path: Path) -> None:
    real = tmp_path / "real.txt"
    real.write_text("\n".join(f"从前，一只猫数到{n}。" for n in "一二三四五六七八九十"), "utf-8")
    options = dataclasses.replace(PLAIN, opening=0.2, valid=0.0)
    build_corpus([real], tmp_path / "c", builtin=4000, options=options, progress=False)
    train, valid = (list(read_corpus(tmp_path / "c", half)) for half in ("train", "valid"))
    assert sum(story.startswith("从前，一只猫数到") for story in train) == 10  # those that are read
    assert sum(story.startswith("从前") for story in valid) > 0.4 * len(valid)  # as they are

    build_corpus([], tmp_path / "all", builtin=4000, options=PLAIN, progress=False)
    before = list(read_corpus(tmp_path / "all"))
    drawn = [story for story in train if "一只猫数到" not in story]
    begun, others = (sum(s.startswith("从前") for s in some) for some in (drawn, before))
    known = len(repertoire()) / len(builtin()[0]) * len(drawn)
    assert others > 0.4 * len(before)
    assert begun == pytest.approx(known + (others - known) * 0.2, rel=0.15)
