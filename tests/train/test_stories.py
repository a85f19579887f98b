"""The stories: every template parses, and what is drawn is clean Chinese text."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tinyzh.train.stories import (
    FOLDER,
    Slots,
    draw,
    load_slots,
    load_templates,
    parse_templates,
    stories,
)

SLOTS: Slots = {"女孩": ("莉莉", "小美"), "动物": ("小兔子", "小狗", "小猫")}


def tell(text: str, seed: int = 1, slots: Slots = SLOTS) -> str:
    (template,) = parse_templates(text, "t.txt", slots)
    return draw(template, slots, random.Random(seed))


def tell_all(text: str) -> set[str]:
    return {tell(text, seed) for seed in range(60)}


def test_every_template_parses_and_fits_the_specification() -> None:
    templates = load_templates(FOLDER)
    assert len(templates) > 3000
    assert len({t.title for t in templates}) == len(templates)
    for template in templates:
        positions = [p for paragraph in template.paragraphs for p in paragraph]
        assert len(positions) <= 16, template.place
        assert all(position.lines for position in positions)
        stories_to_tell = math.prod(
            sum(math.prod(len(choice) for choice in line) for line in position.lines)
            + position.optional
            for position in positions
        )
        assert stories_to_tell >= 16, template.place  # with any names


def test_drawn_stories_are_chinese_with_full_width_punctuation() -> None:
    for story in stories(FOLDER, 2000, seed=1):
        odd = re.findall(r"[^\n一-鿿，。！？：；、…—·“”‘’《》]", story)
        assert not odd, (odd, story)
        assert story.count("“") == story.count("”"), story
        assert 80 <= len(story) <= 500, story
        assert story[-1] in "。！？”…", story


def test_one_seed_tells_the_same_stories() -> None:
    told = list(stories(FOLDER, 400, seed=7))
    assert told == list(stories(FOLDER, 400, seed=7))
    assert told != list(stories(FOLDER, 400, seed=8))
    assert told[:10] == list(stories(FOLDER, 10, seed=7))
    assert len(set(told)) == 400


def test_choices_variables_and_paragraphs() -> None:
    assert tell_all("## 题\n{甲|乙|}丙") == {"甲丙", "乙丙", "丙"}
    assert tell_all("## 题\n<女孩1>和<女孩1>，<女孩2>") == {"莉莉和莉莉，小美", "小美和小美，莉莉"}
    assert tell_all("## 题\n\n甲\n乙\n\n? 丙\n丁\n\n? 戊\n") == {
        "甲乙\n\n丙丁\n\n戊",
        "甲乙\n\n丁\n\n戊",
        "甲乙\n\n丙丁",
        "甲乙\n\n丁",
    }


def test_a_group_is_one_position_and_a_blank_line_ends_it() -> None:
    assert tell_all("## 题\n+ 甲\n+ 乙\n丙\n+ 丁\n+ 戊") == {"甲丙丁", "甲丙戊", "乙丙丁", "乙丙戊"}
    assert tell_all("## 题\n+ 甲\n\n+ 乙") == {"甲\n\n乙"}


def test_words_written_out_or_already_told_are_not_drawn() -> None:
    assert tell_all("## 题\n小兔子遇见<动物1>。") == {"小兔子遇见小狗。", "小兔子遇见小猫。"}
    slots: Slots = {"家人": ("妈妈", "爸爸"), "大人": ("妈妈", "老师")}
    for seed in range(30):
        assert tell("## 题\n<家人1><大人1>", seed, slots) != "妈妈妈妈"
    # Where nothing else is left, the word is drawn all the same.
    assert tell("## 题\n莉莉、小美、<女孩1>").endswith(("莉莉", "小美"))


def test_the_same_sort_of_animal_is_not_drawn_twice() -> None:
    slots: Slots = {"动物": ("小鸭子", "小熊", "小狗"), "大动物": ("大熊", "狮子")}
    for seed in range(30):
        assert "小鸭子" not in tell("## 题\n鸭妈妈遇见<动物1>。", seed, slots)
        assert tell("## 题\n<动物1>和<大动物1>", seed, slots) != "小熊和大熊"
    assert tell("## 题\n鸭、熊和<动物1>", 1, slots).endswith("小狗")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("甲", 1, "before the first"),
        ("# 题\n甲", 1, "a title is '## '"),
        ("## 题\n", 1, "is empty"),
        ("## 题\n甲\n{甲|乙", 3, "'{' without '}'"),
        ("## 题\n甲}", 2, "outside of"),
        ("## 题\n甲|乙", 2, "outside of"),
        ("## 题\n{甲|{乙}}", 2, "nested"),
        ("## 题\n<花1>", 2, "unknown category <花1>"),
        ("## 题\n<女孩>", 2, "not a variable"),
        ("## 题\n女孩1>", 2, "not a variable"),
        ("## 题\n<女孩1><女孩2>\n<女孩3>", 1, "3 different words of 女孩, which has 2"),
    ],
)
def test_a_malformed_template_is_named(text: str, line: int, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^t\.txt:{line}: .*{re.escape(message)}"):
        parse_templates(text, "t.txt", SLOTS)


@pytest.mark.parametrize(
    "text", ["花 玫瑰", "花:", ": 玫瑰", "花: 玫瑰\n花: 百合", "花: 玫瑰 玫瑰"]
)
def test_a_malformed_word_list_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "slots.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"slots\.txt:\d+: "):
        load_slots(path)


def test_a_folder_without_templates_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "slots.txt").write_text("花: 玫瑰", encoding="utf-8")
    with pytest.raises(ValueError, match="no templates"):
        load_templates(tmp_path)


def test_importing_does_not_import_torch() -> None:
    code = "import sys, tinyzh.train, tinyzh.train.stories; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
