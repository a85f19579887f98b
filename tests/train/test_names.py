"""Names of children exchanged for others, and nothing else."""

from __future__ import annotations

import random

from tinyzh.train.names import exchange_names
from tinyzh.train.stories import Slots

SLOTS: Slots = {
    "女孩": ("莉莉", "安娜", "小花", "米娅"),
    "男孩": ("马克", "马克斯", "汤姆", "小虎"),
}


def exchanged(story: str, slots: Slots = SLOTS) -> set[str]:
    return {exchange_names(story, slots, random.Random(seed)) for seed in range(60)}


def test_a_girl_stays_a_girl_and_keeps_her_name_through_the_story() -> None:
    told = exchanged("有个女孩叫莉莉。莉莉爱画画。")
    assert told == {f"有个女孩叫{n}。{n}爱画画。" for n in ("安娜", "小花", "米娅")}


def test_two_names_never_become_one() -> None:
    slots: Slots = {"女孩": ("莉莉", "安娜", "米娅", "露西"), "男孩": ("汤姆", "马克")}
    for story in exchanged("女孩叫莉莉，她的朋友叫安娜。莉莉笑了，安娜也笑了。", slots):
        first, second = story[3:5], story[11:13]
        assert {first, second} == {"米娅", "露西"}
        assert story == f"女孩叫{first}，她的朋友叫{second}。{first}笑了，{second}也笑了。"


def test_a_name_inside_of_a_longer_one_is_not_taken_for_it() -> None:
    for story in exchanged("男孩叫马克斯。马克斯跑了。"):
        name = story[3:-4].split("。")[0]
        assert name in {"汤姆", "小虎"}
        assert story == f"男孩叫{name}。{name}跑了。"


def test_everyday_words_are_names_only_if_somebody_is_called_so() -> None:
    meadow = "草地上有小花。小花开了，小花真香。"
    assert exchanged(meadow) == {meadow}
    assert exchanged("她叫小花。") == {f"她叫{n}。" for n in ("莉莉", "安娜", "米娅")}


def test_a_name_that_nobody_introduces_must_occur_often() -> None:
    twice = "莉莉来了。莉莉走了。"
    assert exchanged(twice) == {twice}
    assert all("莉莉" not in story for story in exchanged(twice + "莉莉睡了。"))


def test_no_free_name_leaves_the_story_alone() -> None:
    story = "她叫莉莉。"
    assert exchange_names(story, {"女孩": ("莉莉",), "男孩": ("汤姆",)}, random.Random(1)) == story


ANIMALS: Slots = {**SLOTS, "动物名": ("雪球", "点点", "毛毛")}


def test_an_animal_has_another_name_if_it_is_called_by_one() -> None:
    told = exchanged("小狗叫雪球。雪球在追一个雪球。", ANIMALS)
    assert told == {f"小狗叫{n}。{n}在追一个{n}。" for n in ("点点", "毛毛")}
    snow = "他们滚雪球，雪球越滚越大，雪球真大。"
    assert exchanged(snow, ANIMALS) == {snow}


def test_a_latin_name_becomes_a_chinese_one_that_fits() -> None:
    for pronoun, names in (("她", SLOTS["女孩"]), ("他", SLOTS["男孩"]), ("它", ANIMALS["动物名"])):
        story = "从前有个 Max 。Max笑了，{}对Maxine说：“我是Max。”{}哭了。"
        told = exchanged(story.format(pronoun, pronoun), ANIMALS)
        assert told == {
            story.replace(" Max ", n)
            .replace("Max笑", f"{n}笑")
            .replace("是Max", f"是{n}")
            .format(pronoun, pronoun)
            for n in names
        }


def test_latin_letters_that_are_no_name_stay() -> None:
    story = "他看DVD，又看DVD，还看DVD。Max来了。"
    assert exchanged(story) == {story}
