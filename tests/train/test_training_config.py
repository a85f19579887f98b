"""Configurations: the named ones, what --set does, and what is said about mistakes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tinyzh.errors import FileMissing, InvalidArgument
from tinyzh.train import config


def parameters(run: config.Run) -> int:
    m = run.model
    layer = 2 * m.dim * m.dim + 2 * m.dim * m.kv_dim + 3 * m.dim * m.hidden_dim + 2 * m.dim
    return m.vocab_size * m.dim * (1 if m.tied else 2) + m.n_layers * layer + m.dim


def test_the_published_model() -> None:
    run = config.load("93m")
    assert parameters(run) == 93_340_416
    assert (run.training.batch, run.training.steps, run.training.length) == (24, 22940, 768)
    assert (run.training.lr, run.training.min_lr, run.training.dropout) == (3e-4, 3e-5, 0.1)


def test_the_builtin_model_is_small_and_awkward() -> None:
    run = config.load("builtin")
    assert 3_000_000 <= parameters(run) <= 5_500_000
    assert run.model.seq_len >= 512
    assert run.model.hidden_dim % 32
    assert run.model.vocab_size == 3000


def test_every_name_loads() -> None:
    assert config.names() == ["93m", "builtin", "consistent", "laptop", "repertoire"]
    shape = config.load("laptop").model
    for name in config.names():
        run = config.load(name, shape=shape)
        assert (run.model == shape) == (name in ("consistent", "laptop", "repertoire"))
        assert config.Run.from_dict(run.as_dict()) == run


def test_a_file_without_a_shape_needs_one() -> None:
    with pytest.raises(InvalidArgument, match=r"consistent\.toml: has no \[model\]: it is for"):
        config.load("consistent")
    shape = config.load("laptop").model
    run = config.load("consistent", ["dim=320", "steps=7"], 2000, shape)
    assert (run.model.dim, run.model.vocab_size, run.training.steps) == (320, 2000, 7)
    assert run.model.hidden_dim == shape.hidden_dim
    short = dataclasses.replace(shape, seq_len=64)
    assert config.load("consistent", shape=short).training.length == 64


@pytest.mark.parametrize("text", ["training = 5", '[training]\nlength = "x"', "[training]\nlr = 1"])
def test_a_file_without_a_shape_is_checked(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.toml").write_text(text + "\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"expected a|steps is 0 and minutes is 0"):
        config.load(str(tmp_path / "own.toml"), shape=config.load("laptop").model)


def test_set_changes_keys_of_both_tables() -> None:
    run = config.load("laptop", ["dim=64", "training.lr = 0.5", "precision=float32", "ema=0"])
    assert (run.model.dim, run.training.lr, run.training.precision) == (64, 0.5, "float32")
    assert run.training.ema == 0.0
    run = config.load("laptop", ['prompts=["小猫", ""]', "tied=false"])
    assert run.training.prompts == ("小猫", "")
    assert not run.model.tied


def test_one_budget_replaces_the_other() -> None:
    run = config.load("laptop", ["steps=7"])
    assert (run.training.steps, run.training.minutes) == (7, 0)
    run = config.load("93m", ["minutes=1.5"])
    assert (run.training.steps, run.training.minutes) == (0, 1.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("hiden_dim=3", r"unknown key hiden_dim; is it hidden_dim\?"),
        (
            "learning_speed=3",
            r"unknown key learning_speed; .model. has dim, .*training. .* lr",
        ),
        ("lr", "'lr': expected key=value"),
        ("=3", "expected key=value"),
        ("training.dim=3", "no key training.dim; dim belongs to .model"),
        ("dim=x", "dim is 'x': expected a whole number"),
        ("dim=64.0", "dim is 64.0: expected a whole number"),
        ("dim=true", "dim is True: expected a whole number"),
        ("lr=fast", "lr is 'fast': expected a number"),
        ("lr=nan", "lr is nan: expected 1e-09 to 1"),
        ("tied=1", "tied is 1: expected true or false"),
        ("compile=maybe", "compile is 'maybe': expected one of auto, yes, no"),
        ("prompts=3", "prompts is 3: expected a list of strings"),
        ("dim=66", "dim is 66 and n_heads 4: dim must be a multiple of twice n_heads"),
        ("n_kv_heads=3", "n_heads is 4 and n_kv_heads 3: the second must divide"),
        ("vocab_size=70000", "vocab_size is 70000: expected 2 to 65536"),
        ("length=257", "length is 257, longer than the context, seq_len 256"),
        ("dropout=1", "dropout is 1: expected 0 to 0.9"),
        ("min_lr=0.1", "min_lr is 0.1, above lr, which is 0.003"),
        ("minutes=0", "steps is 0 and minutes is 0: set one of them"),
        ("n_layers=0", "n_layers is 0: expected 1 to 1048576"),
        (f"dim={10**20}", "dim is 10{20}: expected 1 to 1048576"),
        (f"seq_len={10**20}", "seq_len is 10{20}: expected 1 to 1048576"),
    ],
)
def test_mistakes_are_named(setting: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        config.load("laptop", [setting])


def test_both_budgets_at_once() -> None:
    with pytest.raises(InvalidArgument, match="steps is 3 and minutes is 2"):
        config.load("laptop", ["steps=3", "minutes=2"])


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    with pytest.raises(FileMissing, match=r"own\.toml: no such file"):
        config.load(str(path))
    path.write_text("[model\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"own\.toml: not TOML"):
        config.load(str(path))
    path.write_text("[modle]\ndim = 3\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"unknown table \[modle\]"):
        config.load(str(path))
    path.write_text("[model]\ndim = 8\n[training]\nsteps = 1\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"\[model\] does not say hidden_dim"):
        config.load(str(path))
    path.write_text("model = 3\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match="expected a table, found 3"):
        config.load(str(path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="no configuration '94m': there are 93m, builtin"):
        config.load("94m")
