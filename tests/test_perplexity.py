"""int8 predicts real text as well as fp32 does: its perplexity lies within one percent."""

from __future__ import annotations

from collections.abc import Callable

import tinyzh
from tinyzh import Model

ENGLISH = """Once upon a time, there was a little girl named Mia. She had a small brown dog. \
The dog liked to run and jump in the garden. One day, the dog saw a big red ball under a tree. \
"Look, Mia!" said her mom. "Your dog wants to play." Mia was very happy. She ran to the tree and \
took the ball. She threw it far away, and the dog ran after it. They played all day long.

When the sun went down, Mia was tired. She sat on the grass and hugged her dog. "You are my best \
friend," she said. The dog licked her face. Mom called them to come inside for dinner. They ate \
soup and bread, and then they went to bed. Mia had a nice dream about the red ball.

The next day, the ball was gone. Mia looked under the bed and behind the door, but she could not \
find it. She was sad. Then the dog came in with something in its mouth. It was the ball! Mia \
laughed and clapped her hands. From that day on, she always put her toys in the box."""

POEMS = [
    "主题：明月 体裁：五绝\n明月照山中，清风过小桥。夜深人不见，一水自迢迢。",
    "主题：春风 体裁：七绝\n春风吹绿小江南，花落人家一夜寒。不见当年同醉客，青山依旧水中看。",
    "主题：秋思 体裁：五绝\n秋水连天远，孤舟向晚行。故人千里外，何处有鸿声。",
    "主题：山居 体裁：七绝\n白云深处有人家，门外青松一径斜。日暮归来无个事，独看流水落桃花。",
    "主题：送别 体裁：五绝\n送君千里去，杨柳一枝春。明日江南路，相思有几人。",
]

STORIES = [
    "从前，有一只小兔子住在森林里。有一天，它去河边采蘑菇，遇见了一只小松鼠。小松鼠说：“我迷路了，你能帮帮我吗？”"
    "小兔子说：“别着急，我陪你一起找。”它们走了很久，终于找到了小松鼠的家。松鼠妈妈高兴地说：“谢谢你，善良的小兔子。”",
    "小明有一个红色的皮球，他每天都带着它去公园玩。有一天，皮球滚进了草丛里，小明怎么也找不到。"
    "他很难过，坐在长椅上哭了起来。这时，一个小女孩走过来，问他怎么了。他们一起找，最后在一棵大树下找到了皮球。小明开心地笑了。",
    "夜里下了一场大雨。第二天早上，太阳出来了，花园里的花都开了。小蜜蜂飞来飞去，忙着采花蜜。"
    "妈妈对莉莉说：“你看，只要努力，就会有收获。”莉莉点点头，从那以后，她每天都认真地学习。",
]
TOLERANCE = 0.01


def perplexity(model: Model, texts: list[str]) -> float:
    """Of all texts together."""
    scores = [model.score(text) for text in texts]
    tokens = sum(len(score.logprobs) for score in scores)
    return float(2.718281828459045 ** (-sum(score.total for score in scores) / tokens))


def assert_near(plain: Model, small: Model, texts: list[str], at_most: float) -> None:
    assert (plain.dtype, small.dtype) == ("float32", "int8")
    before, after = perplexity(plain, texts), perplexity(small, texts)
    change = after / before - 1
    print(f"perplexity {before:.3f} as float32, {after:.3f} as int8: {change:+.2%}")
    assert before < at_most, f"perplexity {before:.1f}: the text is not this model's kind"
    assert abs(change) < TOLERANCE, f"perplexity {before:.3f} became {after:.3f}: {change:+.2%}"


def test_stories260K_loaded_as_int8(real: Callable[..., Model]) -> None:
    name = "stories260K.bin"
    assert_near(real(name), real(name, "int8"), ENGLISH.split("\n\n"), at_most=8)


def test_stories260K_written_as_int8(real: Callable[..., Model]) -> None:
    plain, small = real("stories260K.bin"), real("stories260K_q80.bin")
    assert_near(plain, small, ENGLISH.split("\n\n"), at_most=8)


def test_poems(real: Callable[..., Model]) -> None:
    name = "poem_zh_750k.bin"
    assert_near(real(name), real(name, "int8"), POEMS, at_most=500)


def test_the_built_in_model() -> None:
    with tinyzh.Model(dtype="float32") as plain, tinyzh.Model(dtype="int8") as small:
        assert_near(plain, small, STORIES, at_most=200)
