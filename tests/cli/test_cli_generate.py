"""``tinyzh generate`` tells what ``Model.generate`` tells."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import tinyzh
from cli_program import Cli

PROMPT = "从前"


def test_prompt_and_story(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    story = tiny.generate(PROMPT, seed=3).read()
    assert len(story) > 10
    result = cli("generate", PROMPT, "-m", tiny_path, "--seed", "3")
    assert result == (0, f"{PROMPT}{story}\n", "")
    assert cli("generate", PROMPT, "-m", tiny_path, "--seed", "3", "--no-echo").out == f"{story}\n"


def test_the_built_in_model_and_no_prompt(cli: Cli) -> None:
    with tinyzh.Model() as model:
        story = model.generate(seed=3, max_new_tokens=20).read()
    assert cli("generate", "--seed", "3", "--max-new-tokens", "20").out == f"{story}\n"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("temperature", 0.0),
        ("top-p", 0.3),
        ("top-k", 2),
        ("min-p", 0.9),
        ("repetition-penalty", 5.0),
        ("presence-penalty", 50.0),
        ("frequency-penalty", 50.0),
        ("max-new-tokens", 7),
    ],
)
def test_each_parameter_arrives(
    cli: Cli, tiny_path: Path, tiny: tinyzh.Model, flag: str, value: float
) -> None:
    keyword: dict[str, Any] = {flag.replace("-", "_"): value}
    expected = tiny.generate(PROMPT, seed=2, **keyword)
    expected.wait()
    plain = tiny.generate(PROMPT, seed=2)
    plain.wait()
    assert expected.token_ids != plain.token_ids, "a value without effect shows nothing"
    assert _json(cli, tiny_path, "--seed", "2", f"--{flag}", str(value)) == expected.token_ids


def _json(cli: Cli, model: Path, *flags: str) -> list[int]:
    result = cli("generate", PROMPT, "-m", model, "--json", *flags)
    assert result.code == 0, result.err
    ids: list[int] = json.loads(result.out)["token_ids"]
    return ids


def test_min_new_tokens(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    """With a seed whose story ends by itself."""
    for seed in range(1, 200):
        story = tiny.generate(PROMPT, seed=seed)
        story.wait()
        if story.finish_reason == "stop" and len(story.token_ids) < 60:
            break
    else:
        pytest.fail("no story ends by itself")
    ids = _json(cli, tiny_path, "--seed", str(seed), "--min-new-tokens", "100")
    assert len(ids) >= 100


def test_stop_and_bad_words(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    story = tiny.generate(PROMPT, seed=4).read()
    first, second = story[5], next(c for c in story[6:] if c not in story[:6])
    flags = ["generate", PROMPT, "-m", tiny_path, "--no-echo", "--seed", "4"]
    told = cli(*flags, "--stop", second, "--stop", "never there").out
    assert told == story[: story.index(second)] + "\n"
    shunned = cli(*flags, "--bad-word", first, "--bad-word", second).out
    assert len(shunned) > 10
    assert first not in shunned
    assert second not in shunned


def test_several_stories(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    texts = [tiny.generate(PROMPT, seed=7 + i, max_new_tokens=9).read() for i in range(3)]
    assert len(set(texts)) == 3
    flags = ["-m", tiny_path, "--seed", "7", "--stories", "3", "--max-new-tokens", "9"]
    assert cli("generate", PROMPT, *flags).out == (
        f"── 1/3 · seed 7 ──\n{PROMPT}{texts[0]}\n\n"
        f"── 2/3 · seed 8 ──\n{PROMPT}{texts[1]}\n\n"
        f"── 3/3 · seed 9 ──\n{PROMPT}{texts[2]}\n"
    )
    lines = cli("generate", PROMPT, *flags, "--json").out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts
    assert [json.loads(line)["seed"] for line in lines] == [7, 8, 9]


def test_a_random_seed_is_told_and_tells_the_same_again(cli: Cli, tiny_path: Path) -> None:
    flags = ["generate", PROMPT, "-m", tiny_path, "--json"]
    first, other = json.loads(cli(*flags).out), json.loads(cli(*flags).out)
    assert first["seed"] != other["seed"]
    again = json.loads(cli(*flags, "--seed", str(first["seed"])).out)
    assert again["text"] == first["text"]


def test_json(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    story = tiny.generate(PROMPT, seed=3, max_new_tokens=12)
    text = story.read()
    result = cli(
        "generate", PROMPT, "-m", tiny_path, "--seed", "3", "--max-new-tokens", "12", "--json"
    )
    assert result.err == ""
    assert result.out.count("\n") == 1
    assert PROMPT in result.out, "not escaped"
    record = json.loads(result.out)
    stats = record.pop("stats")
    assert record == {
        "prompt": PROMPT,
        "text": text,
        "token_ids": story.token_ids,
        "seed": 3,
        "finish_reason": "length",
    }
    assert stats["prompt_tokens"] == len(story.prompt_ids)
    assert stats["new_tokens"] == 12
    assert stats["logits_hash"] == f"{story.stats.logits_hash:016x}"
    read = tiny.memory()["read_per_token"]
    assert stats["gigabytes_per_second"] == pytest.approx(stats["tokens_per_second"] * read / 1e9)
    assert 0 < stats["time_to_first_token"] < stats["seconds"]


def test_stats_are_on_standard_error(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    flags = ["generate", PROMPT, "-m", tiny_path, "--seed", "3", "--max-new-tokens", "12"]
    result = cli(*flags, "--stats")
    assert result.out == cli(*flags).out
    story = tiny.generate(PROMPT, seed=3, max_new_tokens=12)
    story.wait()
    assert re.fullmatch(
        r"12 tokens · \d+\.\d tokens/s · \d+\.\d GB/s · first token after \d+\.\d ms · seed 3 · "
        rf"logits {story.stats.logits_hash:016x} · ended by length\n",
        result.err,
    )
    one = cli(*flags[:-1], "1", "--stats").err
    assert one.startswith("1 tokens · first token"), "one token has no speed"


def test_a_timeout_ends_each_story(cli: Cli, slow_path: Path) -> None:
    result = cli(
        "generate",
        PROMPT,
        "-m",
        slow_path,
        "--timeout",
        "0.05",
        "--min-new-tokens",
        "999",
        "--json",
    )
    assert result.code == 0
    assert json.loads(result.out)["finish_reason"] == "timeout"


def test_the_prompt_from_standard_input(
    cli: Cli, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["-m", tiny_path, "--seed", "1", "--max-new-tokens", "5"]
    typed = "\ufeff从前，\n有一只\r\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed)))
    assert cli("generate", "-", *flags).out == cli("generate", "从前，\n有一只", *flags).out


def test_a_prompt_longer_than_the_context(cli: Cli, tiny_path: Path) -> None:
    result = cli("generate", "天" * 200, "-m", tiny_path)
    assert result.code == 1
    assert re.search(r"tinyzh: error: the prompt has 20\d tokens and .* 128", result.err)


def test_dtype_and_threads(cli: Cli, tiny_path: Path) -> None:
    flags = ["generate", PROMPT, "-m", tiny_path, "--seed", "3", "--max-new-tokens", "12", "--json"]
    plain = json.loads(cli(*flags).out)
    int8 = json.loads(cli(*flags, "--dtype", "int8").out)
    assert int8["stats"]["logits_hash"] != plain["stats"]["logits_hash"]
    threads = json.loads(cli(*flags, "--threads", "2").out)
    assert threads["stats"]["logits_hash"] == plain["stats"]["logits_hash"]


def test_another_tokenizer(cli: Cli, tiny_path: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.bin"
    alone.write_bytes(tiny_path.read_bytes())
    flags = ["generate", PROMPT, "--seed", "3", "--max-new-tokens", "12"]
    tokenizer = tiny_path.with_name("tokenizer.bin")
    named = cli(*flags, "-m", alone, "--tokenizer", tokenizer)
    assert named == cli(*flags, "-m", tiny_path)


def test_colour(cli: Cli, tiny_path: Path) -> None:
    flags = ["generate", PROMPT, "-m", tiny_path, "--seed", "3", "--max-new-tokens", "5"]
    plain = cli(*flags).out
    colored = cli(*flags, "--color", "always", "--stories", "2").out
    assert "\x1b" not in plain
    assert colored.startswith("\x1b[2m── 1/2 · seed 3 ──\x1b[0m\n\x1b[1m从前\x1b[0m")
    assert re.sub(r"\x1b\[\d*m", "", colored).startswith("── 1/2 · seed 3 ──\n" + plain)


def test_a_story_that_fails_halfway(
    cli: Cli, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error begins on a line of its own."""

    def fail(*_: object, **__: object) -> None:
        raise tinyzh.GenerationError("logit of token 5 is nan")

    monkeypatch.setattr(tinyzh.Model, "generate", fail)
    result = cli("generate", PROMPT, "-m", tiny_path)
    assert result == (1, f"{PROMPT}\n", "tinyzh: error: logit of token 5 is nan\n")
