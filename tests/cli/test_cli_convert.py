"""``tinyzh convert`` from each format and precision to each, looked at with ``--verify``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import checkpoints
import pytest
from cli_program import Cli, one_line
from small_models import CHARACTERS
from tinyzh import Model
from tinyzh.cli import terminal
from tinyzh.cli.arguments import columns
from tinyzh.cli.terminal import Terminal

pytest.importorskip("gguf", reason="reads and writes GGUF; pip install 'tinyzh[gguf]'")
pytest.importorskip("google.protobuf", reason="writes tokenizers; pip install 'tinyzh[hub]'")

SHAPE = checkpoints.Shape(48, 100, 2, 6, 2, 259 + len(CHARACTERS), 64)
KINDS = [
    ("v0", "auto"), ("v1", "auto"), ("v2", "auto"),
    ("tz", "float32"), ("tz", "int8"), ("tz", "int4"),
    ("hf", "float32"), ("hf", "float16"),
    ("gguf", "float32"), ("gguf", "float16"), ("gguf", "int8"),
]  # fmt: skip
Kind = tuple[str, str]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    pieces = checkpoints.tokenizer_bin(checkpoints.byte_pieces(CHARACTERS))
    checkpoints.save(folder / "tokenizer.bin", pieces)
    tensors = checkpoints.random_tensors(SHAPE, 3)
    return checkpoints.save(folder / "model.bin", checkpoints.v0(SHAPE, tensors))


def packed(kind: Kind) -> bool:
    return kind in (("tz", "int8"), ("tz", "int4"))


@pytest.mark.parametrize("first", KINDS, ids="-".join)
def test_each_from_each_is_verified(cli: Cli, original: Path, tmp_path: Path, first: Kind) -> None:
    source = tmp_path / "in" / "m.bin"
    made = cli("convert", original, source, "--format", first[0], "--dtype", first[1], "--verify")
    assert made.code == 0, made.err
    for second in KINDS:
        target = tmp_path / "-".join(second) / "m.bin"
        flags = ["--format", second[0], "--dtype", second[1], "--verify"]
        result = cli("convert", source, target, *flags)
        core = second[0] in ("v0", "v1", "v2", "tz")
        if packed(first) and core and second != first:
            assert result.code != 0, second  # the file that it was made of is to be converted
            assert "\n" not in one_line(result)
            assert not target.exists()
            continue
        assert result.code == 0, (second, result.err)
        verdict = result.out.splitlines()[-1]
        assert re.match(r"verified 20 tensors: .*; logits of 256 tokens: ", verdict), verdict
        rounded = second[1] == "float16" or second in (("v2", "auto"), ("gguf", "int8"))
        if not rounded:
            assert verdict.startswith("verified 20 tensors: the same bits"), (second, verdict)
        with Model(source) as before, Model(target) as after:
            assert after.tokenizer.encode("从前abc🐰") == before.tokenizer.encode("从前abc🐰")


def test_a_file_that_is_not_what_was_promised(
    cli: Cli, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinyzh.formats import conversion

    write = conversion.write_folder

    def wrongly(folder: Path, *rest: object, **options: object) -> object:
        written = write(folder, *rest, **options)  # type: ignore[arg-type]
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "rope_theta": 5e5}))
        return written

    monkeypatch.setattr(conversion, "write_folder", wrongly)
    result = cli("convert", original, tmp_path / "hf", "--verify")
    assert result.code == 1
    assert "hf: its rope_theta is 500000.0 and was 10000.0: do not use it" in result.err


@pytest.mark.parametrize(
    ("name", "format"),
    [("m.gguf", "GGUF"), ("m.tz", "tinyzh tz"), ("m", "Hugging Face"), ("m/", "Hugging Face")],
)
def test_the_name_says_which_format(
    cli: Cli, original: Path, tmp_path: Path, name: str, format: str
) -> None:
    result = cli("convert", original, f"{tmp_path}/{name}")
    assert result.code == 0, result.err
    with Model(tmp_path / name) as model:
        assert model.format == format


def test_a_name_that_says_nothing(cli: Cli, original: Path, tmp_path: Path) -> None:
    result = cli("convert", original, tmp_path / "m.onnx")
    assert result.code == 2
    assert "does not say which format it is to be: give --format, one of v0" in one_line(result)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--format", "hf", "--dtype", "int8"], "dtype is 'int8': hf holds float32 or float16"),
        (["--format", "v2", "--dtype", "float16"], "dtype is 'float16': v2 holds int8; take"),
        (["--format", "gguf", "--dtype", "int4"], "gguf holds float32 or float16 or int8"),
    ],
)
def test_a_dtype_that_a_format_does_not_hold(
    cli: Cli, original: Path, tmp_path: Path, flags: list[str], words: str
) -> None:
    result = cli("convert", original, tmp_path / "m", *flags)
    assert result.code == 2
    assert words in one_line(result)


def test_what_one_should_know_is_noted(cli: Cli, original: Path, tmp_path: Path) -> None:
    assert cli("convert", original, tmp_path / "hf").code == 0
    path = tmp_path / "hf" / "generation_config.json"
    content = json.loads(path.read_text()) | {"eos_token_id": [1, 2, 7], "top_k": 5}
    path.write_text(json.dumps(content))
    result = cli("convert", tmp_path / "hf", tmp_path / "m.tz", "--verify")
    assert result.code == 0
    notes = [line.removeprefix("tinyzh: note: ") for line in result.err.splitlines()]
    assert notes == [
        "tz cannot say that texts end with 1, 2, 7: there it is 1 and 2; pass stop_tokens=[7]",
        "tz has no place for the model's defaults: pass top_k=5",
    ]
    assert "beside it: m.tz.tokenizer.model, m.tz.tokenizer.bin" in result.out


def test_a_tokenizer_beside_is_not_replaced_unasked(
    cli: Cli, original: Path, tmp_path: Path
) -> None:
    (tmp_path / "m.tokenizer.bin").write_bytes(b"precious")
    flags = ["--format", "v1"]
    refused = cli("convert", original, tmp_path / "m.bin", *flags)
    assert refused.code == 1
    assert "m.tokenizer.bin: exists; --force replaces it" in one_line(refused)
    assert (tmp_path / "m.tokenizer.bin").read_bytes() == b"precious"
    assert cli("convert", original, tmp_path / "m.bin", *flags, "--force").code == 0


# ---- progress ------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The passing lines, of a terminal on which nothing is too short for one."""
    lines: list[str] = []
    monkeypatch.setattr(Terminal, "progress", lambda self, text: lines.append(text))
    monkeypatch.setattr(terminal, "_PATIENCE", -1)
    monkeypatch.setattr(terminal, "_BETWEEN", -1)
    return lambda: [line for line in lines if line]


@pytest.mark.parametrize("format", ["hf", "gguf", "v1", "tz"])
def test_a_bar_for_reading_and_for_writing(
    cli: Cli, original: Path, tmp_path: Path, shown: Callable[[], list[str]], format: str
) -> None:
    assert cli("convert", original, tmp_path / "in.gguf").code == 0
    shown()
    before = len(shown())
    assert cli("convert", tmp_path / "in.gguf", tmp_path / "out", "--format", format).code == 0
    bars = [re.fullmatch(r"out: (\w+) ([█░]{24}) +(\d+)%( \d+ s left)?", line) for line in shown()]
    found = [(bar[1], int(bar[3])) for bar in bars[before:] if bar]
    assert len(found) == len(bars) - before
    stages = list(dict.fromkeys(stage for stage, _ in found))
    assert stages[0] == "reading"
    assert stages[-1] == "writing"
    for stage in stages:
        shares = [share for s, share in found if s == stage]
        assert shares == sorted(shares)
        assert (shares[0] < 10, shares[-1]) == (True, 100), stage
        assert len(shares) > 15


def test_short_work_has_no_bar(
    cli: Cli, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    result = cli("convert", original, tmp_path / "m.gguf")
    assert (result.code, "█" in result.err) == (0, False)


def test_a_long_name_leaves_room_for_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Terminal, "progress", lambda self, text: lines.append(text))
    monkeypatch.setattr(terminal, "_PATIENCE", -1)
    for name, kept in (("x" * 100, "x" * 22), ("故事" * 50, "事" + "故事" * 5)):
        lines.clear()
        bar = Terminal().bar(name + ".gguf")
        bar(1, 2, "writing")
        bar(0, 0, "writing")
        (line,) = lines
        assert line.startswith(f"…{kept}.gguf: writing ████████████░░░░░░░░░░░░  50%")
        assert columns(line) < 80
