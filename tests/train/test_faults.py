"""What a program sees of a story's faults in who is who, and what it must not take for one."""

from __future__ import annotations

import pytest
from tinyzh.train.faults import FaultFinder
from tinyzh.train.stories import FOLDER, load_slots, stories

FIND = FaultFinder(load_slots(FOLDER / "slots.txt")).find


def found(story: str) -> list[tuple[str, str]]:
    """Each fault's kind and the text that begins with it, up to four characters."""
    return [(fault.kind, story[fault.start : fault.start + 4]) for fault in FIND(story)]


@pytest.mark.parametrize(
    ("story", "kind", "where"),
    [
        # calls himself by name
        ("“谢谢你，小松鼠，”小松鼠说。", "self", "小松鼠说"),
        ("有一个女孩叫小雅。小雅说：“你可以玩球，小雅。”", "self", "小雅。”"),
        ("有一个男孩叫约翰。约翰看了看，回答：“好的，约翰。”", "self", "约翰。”"),
        ("有一个女孩叫小雅。小雅说，“谢谢你，小雅。”", "self", "小雅。”"),
        # answers his own question
        ("“你怎么了？”老鼠问。“我的球不见了，”小老鼠说。", "answer", "小老鼠说"),
        ("它叫阿黄。“我来拉！”阿黄喊道。“不，我来！”阿黄说。", "answer", "阿黄说。"),
        ("他叫杰克。杰克问：“我可以玩吗？”杰克说：“当然可以。”", "answer", "杰克说："),
        # is another than he was
        ("“我是一个好心的农夫，”小鸟说。", "named", "农夫，”"),
        ("有一只名叫阿黄的小猴子。“我是一只鸭子！”阿黄说。", "named", "鸭子！”"),
        ("它叫果冻，它叫汤圆。汤圆说：“你好，我叫果冻。”", "named", "果冻。”"),
        # two in one
        ("有一个男孩叫约翰。约翰和约翰成为了朋友。", "twice", "约翰成为"),
        ("莉莉笑了。莉莉跳了。莉莉想帮助莉莉。", "twice", "莉莉。"),
        ("小兔子决定帮助小兔子。", "twice", "小兔子。"),
        ("她和爸爸、爸爸一起住。", "twice", "爸爸一起"),
        ("公主让国王和公主一起打扫。", "twice", "公主一起"),
        ("有一个男孩叫约翰。他遇到了一个名叫约翰的小男孩。", "again", "约翰的小"),
        # says nothing rather than who speaks
        ("“我来！”小猫说。\n\n\n\n“好！”", "gap", "\n\n“好"),
        # another kind
        ("有一只名叫汤圆的小猫。汤圆是一只善良的小羊。", "kind", "小羊。"),
        ("一只小狗名叫丁丁。大家喜欢小猫丁丁。", "kind", "小猫丁丁"),
    ],
)
def test_a_fault_is_found_where_it_begins(story: str, kind: str, where: str) -> None:
    assert (kind, where) in found(story)
    assert FIND("") == []


CHILDREN = "他叫约翰，她叫莉莉，他叫汤姆。"


@pytest.mark.parametrize(
    "story",
    [
        "“谢谢你，小松鼠，”小兔子说。",
        "莉莉看着妈妈，说：“我是莉莉。”",
        "汤姆看着莉莉说：“走吧，莉莉！”莉莉笑了。",
        "“真好，”莉莉说，“谢谢你，汤姆。”汤姆笑了。",
        "“妈妈，我饿了。”妈妈知道他饿了，说要做饭。",
        "“妈妈，我饿了。”妈妈的小猫说。",
        "“汤姆，快来！”汤姆的妈妈笑着说：“吃饭了。”",
        "汤姆很伤心。他的朋友来看他，问：“汤姆，你怎么了？”",
        "莉莉听到有人在喊：“莉莉！莉莉！”",
        "“你怎么了？”老鼠问。“我的球不见了，”小猫说。",
        "“我跳不过去，可以吗？”小青蛙说。“先跳近的，”青蛙妈妈说。",
        "“你好，”小猫说，“你要去哪里？”",
        "“看，彩虹！”莉莉喊道。“太美了！”莉莉说。",
        "“你在哪里？”她喊道。“我在这里，”她说。",
        "“我要睡觉了，”莉莉说。她闭上了眼睛。“晚安，”莉莉说。",
        "有一只名叫阿黄的小猴子。“我是一只小猴子！”阿黄说。",
        "“我希望我是一只小鸟，”小猫说。",
        "约翰和约翰的妈妈去公园。",
        "小鸟看到小鸟们飞走了。",
        "约翰跑得很快，约翰的狗也是。",
        "一朵小花挨着一朵小花，小花开了。",
        "大家一起叫约翰，一边跑一边叫汤姆。",
        "一只小猫叫着，小狗着急了。",
        "马克斯和马克成为了朋友。",
    ],
)
def test_what_is_right_is_no_fault(story: str) -> None:
    assert found(CHILDREN + story) == []


def test_stories_of_the_templates_have_hardly_any() -> None:
    told = list(stories(FOLDER, 1000, seed=3))
    faulty = [story for story in told if FIND(story)]
    assert len(faulty) <= 8


def test_lists_without_some_category_will_do() -> None:
    find = FaultFinder({"女孩": ("莉莉",)}).find
    assert [fault.kind for fault in find("她叫莉莉。莉莉和莉莉笑了。")] == ["twice"]
