"""What smaller weights and a smaller cache cost: perplexity, and how far predictions move.

``python -m pytest tests/test_perplexity.py -s`` prints the figures of docs/quantisation.md.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import pytest
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

pytestmark = pytest.mark.slow  # hundreds of stories: too many under the sanitizers

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ROOT.parent / "shared" / "corpus" / "tinystories_zh_valid.json"

#: (dtype, kv_dtype) beside float32 weights with a float32 cache
KINDS = [
    ("float32", "float16"),
    ("float32", "int8"),
    ("int8", "float32"),
    ("int8", "float16"),
    ("int8", "int8"),
    ("int4", "float16"),
]

#: model -> texts, perplexity of the plain model that shows the text to be of its kind
TEXTS: dict[str, tuple[list[str], float]] = {
    "stories260K.bin": (ENGLISH.split("\n\n"), 8),
    "stories260K_q80.bin": (ENGLISH.split("\n\n"), 8),
    "poem_zh_750k.bin": (POEMS, 500),
    "": (STORIES, 100),  # the built-in model, from its fp16 weights
}

#: model -> largest rise of perplexity, in percent, in the order of KINDS
RISE = {
    "stories260K.bin": (0.1, 0.3, 0.3, 0.3, 0.3, 8.0),
    "stories260K_q80.bin": (0.1, 0.8, 0.3, 0.3, 0.5, 10.0),
    "poem_zh_750k.bin": (0.1, 0.3, 0.3, 0.3, 0.3, 5.0),
    "": (0.1, 0.3, 0.3, 0.3, 0.3, 3.0),
}


@functools.cache
def built_in() -> bytes:
    """The built-in model in fp32, from the fp16 weights that the repository keeps."""
    with Model() as shipped:
        config = dataclasses.asdict(shipped.config)
    fields = {field.name for field in dataclasses.fields(checkpoints.Shape)}
    shape = checkpoints.Shape(**{k: v for k, v in config.items() if k in fields})
    with np.load(ROOT / "models" / "story.fp16.npz") as arrays:
        return checkpoints.v0(shape, {name: arrays[name].astype(np.float32) for name in arrays})


@functools.cache
def built_in_texts() -> list[str]:
    """Stories that it has not seen: real ones too, where they are."""
    real = json.loads(HELD_OUT.read_text("utf-8"))[:15] if HELD_OUT.exists() else []
    return STORIES + real


def perplexity(model: Model, texts: list[str]) -> float:
    """Of all texts together."""
    scores = [model.score(text) for text in texts]
    tokens = sum(len(score.logprobs) for score in scores)
    return float(np.exp(-sum(score.total for score in scores) / tokens))


def divergence(plain: Model, small: Model, texts: list[str]) -> float:
    """Mean Kullback-Leibler divergence of the next token's distribution, in nats."""
    sums, count = 0.0, 0
    for text in texts:
        ids = [1, *plain.tokenizer.encode(text)]
        p, q = (log_softmax(model.logits(ids).astype(np.float64)) for model in (plain, small))
        sums += float((np.exp(p) * (p - q)).sum())
        count += len(ids)
    return sums / count


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=["-".join(kind) for kind in KINDS])
@pytest.mark.parametrize("name", TEXTS, ids=[name or "built-in" for name in TEXTS])
def test_smaller_numbers_predict_as_well(real: Callable[..., Model], name: str, kind: int) -> None:
    dtype, kv_dtype = KINDS[kind]

    def opened(dtype: str, kv_dtype: str) -> Model:
        if name:
            return real(name, dtype, kv_dtype)
        tokenizer = Path(tinyzh.__file__).parent / "data" / "story.tokenizer.bin"
        return Model(built_in(), tokenizer=tokenizer, dtype=dtype, kv_dtype=kv_dtype)

    plain, small = opened("float32", "float32"), opened(dtype, kv_dtype)
    assert (small.dtype, small.kv_dtype) == (dtype, kv_dtype)
    texts, at_most = TEXTS[name]
    texts = texts if name else built_in_texts()
    before, after = perplexity(plain, texts), perplexity(small, texts)
    rise, moved = 100 * (after / before - 1), divergence(plain, small, texts)
    print(f"{name or 'built-in'} {dtype} {kv_dtype}: {before:.3f} {rise:+.2f} % KL {moved:.2e}")
    assert before < at_most, f"perplexity {before:.1f}: the text is not this model's kind"
    assert rise <= RISE[name][kind], f"perplexity {before:.3f} became {after:.3f}: {rise:+.2f} %"
    assert 0 <= moved < (0.2 if dtype == "int4" else 0.01)


def test_files_written_as_int8_are_like_those_loaded_so(real: Callable[..., Model]) -> None:
    texts = ENGLISH.split("\n\n")
    plain, small = real("stories260K.bin"), real("stories260K_q80.bin")
    assert small.dtype == "int8"
    assert perplexity(small, texts) / perplexity(plain, texts) < 1.005


@pytest.mark.slow
def test_a_shifted_story_is_as_well_told_as_one_with_a_fresh_window() -> None:
    """Over 5,000 tokens: its first and last tokens beside as many last ones."""
    with tinyzh.Model() as model:
        context, new = model.config.seq_len, 5000
        first, last = context // 8, context // 2
        for seed in (1, 2):
            story = model.generate(
                "从前", seed=seed, overflow="shift", min_new_tokens=new, max_new_tokens=new
            )
            story.wait()
            ids = story.prompt_ids + story.token_ids
            shifted, fresh = [], []
            for start in range(context, len(ids), context - first - last):
                end = min(start + context - first - last, len(ids))
                shifted.append((ids[:first] + ids[start - last : end], first + last))
                fresh.append((ids[start - last - first : end], first + last))
            shifted_total = sum(map(sum, model._score(shifted)))
            fresh_total = sum(map(sum, model._score(fresh)))
            assert (fresh_total - shifted_total) / (len(ids) - context) < math.log(1.03)
