"""One model in three programs: PyTorch, the C++ engine, transformers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="compares; pip install 'tinyzh[train]'")

import tinyzh  # noqa: E402
from tinyzh.config import Config  # noqa: E402
from tinyzh.formats.pieces import Pieces  # noqa: E402
from tinyzh.train.binary import LAYER_TENSORS, write_bin  # noqa: E402
from tinyzh.train.export import hugging_face_folder  # noqa: E402
from tinyzh.train.model import Llama  # noqa: E402

DATA = Path(__file__).parents[1] / "data"
BUILTIN = Path(tinyzh.__file__).parent / "data" / "story.bin"
TOLERANCE = 5e-5  # of the largest logit

SHAPES = [
    Config(dim=48, hidden_dim=77, n_layers=2, n_heads=4, n_kv_heads=2, vocab_size=640, seq_len=40,
           tied=True),
    Config(dim=64, hidden_dim=172, n_layers=3, n_heads=8, n_kv_heads=8, vocab_size=640, seq_len=64,
           tied=False),
    Config(dim=40, hidden_dim=63, n_layers=2, n_heads=5, n_kv_heads=1, vocab_size=640, seq_len=33,
           tied=False),
]  # fmt: skip
NAMES = ["shared-odd-tied", "all-heads-untied", "one-head-untied"]


def random_model(config: Config) -> Llama:
    """Weights that make activations near 1, as trained ones do."""
    torch.manual_seed(3)
    model = Llama(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.normal_(1, 0.2)
            else:
                weight.normal_(0, 1 if name.startswith("tok") else weight.shape[1] ** -0.5)
    return model


@torch.no_grad()
def read_bin(path: Path) -> Llama:
    """A checkpoint of any version; int8 weights become fp32."""
    with tinyzh.Model(path, tokenizer=False) as engine:
        model = Llama(engine.config)
        weights = dict(model.named_parameters())
        for name, array in engine.weights.items():
            layer, _, tensor = name.rpartition(".")
            ours = f"{layer}.{LAYER_TENSORS[tensor]}" if layer else name
            weights[f"{ours}.weight"].copy_(torch.from_numpy(array.copy()))
    return model


def torch_logits(model: Llama, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor([ids]))[0].numpy()


def some_ids(config: Config) -> list[int]:
    random = np.random.default_rng(5)
    return [int(i) for i in random.integers(0, config.vocab_size, config.seq_len)]


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("config", SHAPES, ids=NAMES)
def test_the_engine_computes_what_pytorch_does(config: Config, tmp_path: Path) -> None:
    model, ids = random_model(config), some_ids(config)
    for version in ("v0", "v1"):
        write_bin(model, tmp_path / "model.bin", version)
        with tinyzh.Model(tmp_path / "model.bin", tokenizer=False) as engine:
            assert_close(engine.logits(ids), torch_logits(model, ids))


@pytest.mark.parametrize("config", SHAPES, ids=NAMES)
def test_int8_is_what_its_file_says(config: Config, tmp_path: Path) -> None:
    """fp32 and int8 differ by rounding; the int8 file read back into PyTorch does not."""
    model, ids = random_model(config), some_ids(config)
    write_bin(model, tmp_path / "model.bin", "v2", group_size=8)
    rounded = read_bin(tmp_path / "model.bin").eval()
    with tinyzh.Model(tmp_path / "model.bin", tokenizer=False, dtype="float32") as engine:
        assert_close(engine.logits(ids), torch_logits(rounded, ids))
        difference = np.abs(engine.logits(ids) - torch_logits(model, ids)).max()
        assert 0 < difference < 0.2 * np.abs(torch_logits(model, ids)).max()


@pytest.mark.parametrize("config", SHAPES, ids=NAMES)
def test_a_file_comes_back(config: Config, tmp_path: Path) -> None:
    model = random_model(config)
    for version in ("v0", "v1"):
        write_bin(model, tmp_path / "model.bin", version)
        again = read_bin(tmp_path / "model.bin")
        assert again.config == config
        for (name, weight), (_, other) in zip(
            model.named_parameters(), again.named_parameters(), strict=True
        ):
            assert torch.equal(weight, other), name


def transformers_model(folder: Path) -> object:
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    transformers = pytest.importorskip("transformers", reason="the third program")
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager"
    ).eval()


@pytest.mark.parametrize("config", SHAPES, ids=NAMES)
def test_transformers_computes_the_same(config: Config, tmp_path: Path) -> None:
    model, ids = random_model(config), some_ids(config)
    hugging_face_folder(model, DATA / "zh.model", tmp_path)
    theirs = transformers_model(tmp_path)
    with torch.no_grad():
        assert_close(theirs(torch.tensor([ids])).logits[0].numpy(), torch_logits(model, ids))


@pytest.mark.skipif(not BUILTIN.exists(), reason="the built-in model is not here")
def test_the_builtin_model_in_all_three(tmp_path: Path) -> None:
    model = read_bin(BUILTIN).eval()
    with tinyzh.Model(dtype="float32") as engine:
        assert engine.tokenizer is not None
        ids = engine.tokenizer.encode("从前，有一只小兔子住在森林里。" * 8, bos=True)
        expected = torch_logits(model, ids)
        assert_close(engine.logits(ids), expected)
    hugging_face_folder(model, BUILTIN.with_name("story.tokenizer.model"), tmp_path)
    theirs = transformers_model(tmp_path)
    with torch.no_grad():
        assert_close(theirs(torch.tensor([ids])).logits[0].numpy(), expected)


TEXTS = [
    "从前，有一只小兔子。它住在森林里！\n“你好！”它说：“我们去哪里？”",
    "Once upon a time, there were 123 rabbits.",
    "  two  spaces  ",
    "龘龘 is not in it, 🐰 neither.",
    "ＡＢＣ，全角 ！",
    "",
    " ",
]


@pytest.mark.parametrize("name", ["zh", "nfkc"])
def test_their_tokenizer_gives_the_same_ids(name: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the library that reads tokenizer.json")
    import json

    import sentencepiece

    path = DATA / f"{name}.model"
    theirs = tokenizers.Tokenizer.from_str(json.dumps(Pieces.of_model(path.read_bytes()).json()))
    ours = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for text in TEXTS:
        assert theirs.encode(text).ids == [1, *ours.encode(text)], text
        assert theirs.decode(theirs.encode(text).ids) == ours.decode(ours.encode(text)), text


def test_locked_dropout_has_one_mask_for_all_positions_and_none_when_told_stories() -> None:
    from tinyzh.train.model import Dropout

    x = torch.ones(4, 9, 64)
    torch.manual_seed(3)
    each, locked = Dropout(0.5, False)(x), Dropout(0.5, True)(x)
    assert (locked == locked[:, :1]).all()
    assert not (each == each[:, :1]).all()
    assert set(locked.unique().tolist()) == {0.0, 2.0}
    assert abs(locked.mean().item() - 1) < 0.2
    assert len({tuple(row) for row in locked[:, 0].tolist()}) == 4  # each row its own
    assert (Dropout(0.5, True).eval()(x) == x).all()
