"""``tinyzh info``, ``convert``, ``tokenize``, ``score`` and ``bench``."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import checkpoints
import pytest
import tinyzh
from checkpoints import Shape
from cli_program import Cli, one_line
from small_models import settled
from tinyzh import _core
from tinyzh.cli.bench import _prefill_seconds, _prompt

FUZZ = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "checkpoint"
SPACED = "  从 前a"  # spaces to be seen

# ---- info ----------------------------------------------------------------------------------------


def test_info(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    result = cli("info", tiny_path)
    assert result.code == 0
    for part in (
        str(tiny_path),
        "llama2.c v0 (float32)",
        f"{tiny.parameters:,} parameters",
        "2, dim 32, hidden 61",
        "4 of size 8, 2 for keys and values",
        f"{tiny.config.vocab_size} pieces, classifier not tied",
        "128 tokens",
        "tokenizer.bin (tokenizer.bin)",
        "for weights and 1 session at full context",
        "for 256 sessions at full context",
    ):
        assert part in result.out


def test_info_as_json(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    facts = json.loads(cli("info", tiny_path, "--json").out)
    assert facts["config"]["hidden_dim"] == 61
    assert facts["config"]["head_size"] == 8
    assert facts["file_bytes"] == tiny_path.stat().st_size
    assert facts["parameters"] == tiny.parameters
    assert facts["tokenizer"]["path"].endswith("tokenizer.bin")
    one = tiny.memory()["kv_cache_per_position"] * 128
    assert facts["memory"]["sessions"] == {
        str(n): tiny_path.stat().st_size + n * one for n in (1, 16, 256)
    }


def test_info_of_int8(cli: Cli, tiny_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "alone_v2.bin"
    _core.convert(_core.Source(str(tiny_path)), str(target), "v2", 32, None)
    facts = json.loads(cli("info", target, "--json").out)
    assert (facts["dtype"], facts["group_size"]) == ("int8", 32)
    with tinyzh.Model(target, tokenizer=False) as model:
        assert facts["memory"]["weights"] == model.memory()["weights"] > 0
    assert facts["tokenizer"] is None
    assert "alone_v2.model (not there)" in facts["tokenizer_problem"]
    shown = cli("info", target).out
    assert "llama2.c v2 (int8, groups of 32)" in shown
    assert "alone_v2.model (not there)" in shown


def test_info_of_the_built_in_model(cli: Cli) -> None:
    facts = json.loads(cli("info", "--json").out)
    assert Path(facts["path"]).name == "story.bin"
    assert Path(facts["tokenizer"]["path"]).name.startswith("story.")


@pytest.mark.parametrize(
    ("name", "words"),
    [("foreign_html", "HTML"), ("bad_v0_tied_cut", "bytes"), ("bad_version", "version")],
)
def test_info_of_a_broken_file(cli: Cli, name: str, words: str) -> None:
    result = cli("info", FUZZ / name)
    assert result.code == 1
    assert result.out == ""
    assert words in one_line(result)


# ---- convert -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["v0", "v1", "v2"])
def test_convert(cli: Cli, tiny_path: Path, tmp_path: Path, layout: str) -> None:
    target, expected = tmp_path / "new.bin", tmp_path / "expected.bin"
    result = cli("convert", tiny_path, target, "--format", layout)
    assert result.code == 0
    _core.convert(_core.Source(str(tiny_path)), str(expected), layout, 0, None)
    assert target.read_bytes() == expected.read_bytes()
    assert result.out.startswith(f"{target}: {layout}, ")


def test_convert_tells_when_llama2c_misreads(cli: Cli, tmp_path: Path) -> None:
    for hidden, misread in ((64, False), (61, True)):
        shape = Shape(32, hidden, 1, 4, 4, 64, 16)
        tensors = checkpoints.random_tensors(shape)
        source = checkpoints.save(tmp_path / f"{hidden}.bin", checkpoints.v0(shape, tensors))
        result = cli("convert", source, tmp_path / f"{hidden}_v2.bin", "--format", "v2")
        assert result.code == 0
        assert ("runq" in result.err) is misread


def test_convert_with_groups_of(cli: Cli, tiny_path: Path, tmp_path: Path) -> None:
    target = tmp_path / "new.bin"
    assert cli("convert", tiny_path, target, "--format", "v2", "--group-size", "8").code == 0
    assert _core.Source(str(target)).checkpoint["group_size"] == 8
    wrong = cli("convert", tiny_path, tmp_path / "b", "--format", "v2", "--group-size", "7")
    assert wrong.code == 2
    assert "7" in one_line(wrong)
    useless = cli("convert", tiny_path, tmp_path / "b", "--format", "v1", "--group-size", "8")
    assert useless.code == 2
    assert "--group-size is for --format v2" in one_line(useless)
    assert not (tmp_path / "b").exists()


def test_convert_does_not_overwrite(cli: Cli, tiny_path: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(tiny_path.read_bytes())
    target.write_bytes(b"precious")
    refused = cli("convert", source, target, "--format", "v1")
    assert refused.code == 1
    assert "--force" in one_line(refused)
    assert target.read_bytes() == b"precious"
    assert cli("convert", source, target, "--format", "v1", "--force").code == 0
    assert _core.Source(str(target)).checkpoint["format"] == "llama2.c v1"

    link = tmp_path / "link.bin"
    link.symlink_to(source)
    for same in (source, link):
        refused = cli("convert", source, same, "--format", "v1", "--force")
        assert refused.code == 2
        assert "which is never replaced: give another name" in one_line(refused)
    assert source.read_bytes() == tiny_path.read_bytes()


# ---- tokenize ------------------------------------------------------------------------------------


def test_tokenize(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    ids = tiny.tokenizer.encode("从前 兔é\n")
    pieces = ["<s>", "▁", "从", "前", "▁", "兔", "<0xC3>", "<0xA9>", "<0x0A>"]
    shown = cli("tokenize", "从前 兔é\n", "-m", tiny_path).out
    assert [line.split() for line in shown.splitlines()] == [
        [str(i), piece] for i, piece in zip(ids, pieces, strict=True)
    ]
    assert json.loads(cli("tokenize", "从前 兔é\n", "-m", tiny_path, "--json").out) == {
        "ids": ids,
        "pieces": pieces,
    }
    only_ids = cli("tokenize", "从前 兔é\n", "-m", tiny_path, "--ids").out
    assert only_ids == " ".join(map(str, ids)) + "\n"
    for form in ([only_ids.strip()], only_ids.split(), [str(ids)]):
        assert cli("tokenize", "--decode", *form, "-m", tiny_path).out == "从前 兔é\n\n"


def test_tokenize_finds_its_tokenizer(cli: Cli, tiny_path: Path) -> None:
    tokenizer = tiny_path.with_name("tokenizer.bin")
    expected = cli("tokenize", SPACED, "-m", tiny_path)
    assert cli("tokenize", SPACED, "--tokenizer", tokenizer) == expected
    assert cli("tokenize", SPACED, "-m", tiny_path, "--tokenizer", tokenizer) == expected
    with tinyzh.Model() as model:
        ids = model.tokenizer.encode("从前")
    assert cli("tokenize", "从前", "--ids").out == " ".join(map(str, ids)) + "\n"


def test_tokenize_what_is_piped_in(
    cli: Cli, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cli("tokenize", "从前", "-m", tiny_path)
    for arguments in ([], ["-"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("从前\n".encode())))
        assert cli("tokenize", *arguments, "-m", tiny_path) == expected


@pytest.mark.parametrize("command", ["tokenize", "score"])
def test_no_text_on_a_terminal(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(keyboard, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", keyboard)
    result = cli(command)
    assert result.code == 2
    assert 'no text: give it in quotes, or "-"' in one_line(result)


# ---- score ---------------------------------------------------------------------------------------


def test_score(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    score = tiny.score("从前有一只小兔子")
    shown = cli("score", "从前有一只小兔子", "-m", tiny_path).out
    values = {line[:20].strip(): line[20:] for line in shown.splitlines()}
    assert values == {
        "characters": "8",
        "tokens": str(len(score.token_ids)),
        "log-probability": f"{score.total:.4f}",
        "perplexity": f"{score.perplexity:.4f}",
        "bits per character": f"{score.bits_per_character:.4f}",
    }
    record = json.loads(cli("score", "从前有一只小兔子", "-m", tiny_path, "--json").out)
    assert record["logprob"] == score.total
    assert record["bits_per_character"] == pytest.approx(-score.total / math.log(2) / 8)
    assert "per_token" not in record


def test_score_per_token(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    score = tiny.score("兔é")
    flags = ["score", "兔é", "-m", tiny_path, "--per-token"]
    record = json.loads(cli(*flags, "--json").out)
    assert [t["logprob"] for t in record["per_token"]] == score.logprobs
    assert [t["piece"] for t in record["per_token"]] == ["▁", "兔", "<0xC3>", "<0xA9>"]
    first = cli(*flags).out.splitlines()[0].split()
    assert first == [f"{score.logprobs[0]:.4f}", str(score.token_ids[0]), "▁"]


# ---- bench ---------------------------------------------------------------------------------------


def test_bench(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    result = cli("bench", "-m", tiny_path, "--quick", "--threads", "2", "--json")
    assert result.code == 0
    assert result.err == ""
    report = json.loads(result.out)
    assert report["threads"] == 2
    assert report["prefill_tokens"] == 128, "the context is shorter than 255"
    read = tiny.memory()["read_per_token"]
    assert report["read_bytes_per_token"] == read
    assert set(report["read_bytes_per_second"]) == {"1", "2"}
    best = max(report["read_bytes_per_second"].values())
    assert report["limit_tokens_per_second"] == pytest.approx(best / read)
    assert report["limit_reached"] == pytest.approx(
        report["decode_tokens_per_second"] / report["limit_tokens_per_second"]
    )
    for name in ("prefill", "decode", "streams"):
        assert 10 < report[f"{name}_tokens_per_second"] < 1e7
    assert 0 < report["time_to_first_token"] < 1


def test_bench_reads_prompts_that_the_engine_does_not_know(tiny_path: Path) -> None:
    with tinyzh.Model(tiny_path) as model:
        prompts = [_prompt(model, 40, other=i) for i in range(3)]
        assert all(_prefill_seconds(model, prompt) > 0 for prompt in prompts)
        assert settled(model).reused_tokens == 2  # BOS, of the second and the third
        _prefill_seconds(model, prompts[0])
        assert settled(model).reused_tokens > 30


def test_bench_in_words(cli: Cli, tiny_path: Path) -> None:
    shown = cli("bench", "-m", tiny_path, "--quick", "--threads", "1").out
    names = [line[:22].strip() for line in shown.splitlines()]
    assert names == [
        "model",
        "prefill",
        "first token",
        "1 stream",
        "4 streams",
        "memory",
        "limit for 1 stream",
        "reached",
    ]
    assert "float32" in shown
    assert "1 thread" in shown


def test_score_of_a_real_story_is_better_than_of_noise(cli: Cli) -> None:
    """The built-in model knows its trade."""

    def bits(text: str) -> float:
        return float(json.loads(cli("score", text, "--json").out)["bits_per_character"])

    assert bits("从前，有一只小兔子。") < bits("兔小有，只子从。一前") / 2
