"""``tinyzh run`` prints what llama2.c's ``run`` prints."""

from __future__ import annotations

import ctypes
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import tinyzh
from checkpoints import Shape
from cli_program import Cli, one_line
from tinyzh.cli import run as command
from tinyzh.cli.c_numbers import c_float, c_int
from tinyzh.cli.run_tokenizer import RunTokenizer
from tinyzh.formats.conversion import convert
from tinyzh.formats.huggingface_writer import write_folder
from tinyzh.formats.pieces import Pieces

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "run" / "stories260K.json"
REAL_MODELS = ROOT.parent / "shared" / "models"

golden: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def stories() -> Path:
    path = REAL_MODELS / "stories260K.bin"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {path.parent}")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == golden["sha256"], "another file"
    return path


# ---- against the reference program ------------------------------------------------------------


def test_prints_what_the_reference_prints(cli: Cli, stories: Path) -> None:
    """golden/run/make.py says how its answers were made."""
    assert len(golden["cases"]) > 40
    for case in golden["cases"]:
        result = cli("run", stories, "-z", stories.with_name("tok512.bin"), *case["flags"])
        assert result.code == 0, result.err
        shown = result.out
        if case["dropped"]:
            assert case["dropped"] in shown
            shown = shown.replace(case["dropped"], "", 1)
        assert shown == case["output"], case["flags"]


def test_speed_is_on_standard_error(cli: Cli, stories: Path) -> None:
    tokenizer = stories.with_name("tok512.bin")
    result = cli("run", stories, "-z", tokenizer, "-s", "1", "-n", "20")
    words = result.err.split()
    assert words[:2] == ["achieved", "tok/s:"]
    assert float(words[2]) > 0
    assert cli("run", stories, "-z", tokenizer, "-s", "1", "-n", "1").err == ""


def test_a_model_file_serves_as_well_as_its_bin(
    cli: Cli, stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pieces are those of llama2.c's exporter; narrowing and squeezing are not run's ways."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(stories, tmp_path)
    shutil.copy(stories.with_name("tok512.model"), tmp_path)
    flags = ["-s", "8", "-i", "  One day，  小明 "]
    with_model = cli("run", tmp_path / stories.name, *flags)
    assert with_model.out.startswith("  One day，  小明 ")
    assert with_model.out == cli("run", stories, "-z", stories.with_name("tok512.bin"), *flags).out


def test_wide_punctuation_is_narrowed_only_where_it_cannot_be_written() -> None:
    with_bytes = checkpoints.tokenizer_bin(checkpoints.byte_pieces(" ,"))
    without = checkpoints.tokenizer_bin([*PIECES[:3], (b" ", 0.0), (b",", 0.0)])
    assert RunTokenizer(Path("x"), with_bytes, 261).encode("，") == [
        BOS,
        259,
        *(byte(c) for c in "，".encode()),
    ]
    assert RunTokenizer(Path("x"), without, 5).encode("，") == [BOS, 3, 4]


# ---- the command line -------------------------------------------------------------------------

_INTEGERS = ["0", "7", "-7", "+5", " 12x", "x", "", "2147483647", "2147483648", "4294967295"]
_INTEGERS += ["4294967296", "12345678901234567890", "-99999999999999999999", "1_000", "\v3", "٣"]
_FLOATS = ["0", "1", "-1", "0.9", ".5", "5.", "1e3", "1e", "1e-60", "1e60", "-1e60", "0x1p-1"]
_FLOATS += ["0x.8", "0x", "inf", "-Infinity", " 2.5abc", "abc", "", "1_0", "１", "1.00000001"]


@pytest.mark.parametrize("text", _INTEGERS)
def test_integers_are_those_of_c(text: str) -> None:
    atoi = ctypes.CDLL(None).atoi
    assert c_int(text) == atoi(text.encode())


@pytest.mark.parametrize("text", _FLOATS)
def test_floats_are_those_of_c(text: str) -> None:
    atof = ctypes.CDLL(None).atof
    atof.restype = ctypes.c_double
    assert c_float(text) == ctypes.c_float(atof(text.encode())).value


def test_defaults_and_conventions() -> None:
    plain = command.parse(["m.bin"])
    assert (plain.temperature, plain.steps, plain.seed, plain.prompt) == (1.0, 256, 0, b"")
    assert plain.top_p == np.float32(0.9)
    assert command.parse(["m.bin", "-p", "0"]).top_p == 1.0
    assert command.parse(["m.bin", "-p", "1.01"]).top_p == np.float32(0.9)
    assert command.parse(["m.bin", "-p", "1e-60"]).top_p == 1.0
    assert command.parse(["m.bin", "-s", "-1"]).seed == 2**64 - 1
    assert command.parse(["m.bin", "-t", "-0.1"]).temperature == 0
    assert command.parse(["m.bin", "-n", "-1"]).steps == 0
    assert command.parse(["m.bin", "-i", "a", "-i", "-t"]).prompt == b"-t"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["checkpoint", "--help"]),
        (["m.bin", "-m", "chat"], ["no chat mode"]),
        (["m.bin", "-y", "You are a bear"], ["no chat mode"]),
        (["m.bin", "-m", "sing"], ["'sing'", "generate"]),
        (["m.bin", "-t"], ["-t needs a value"]),
        (["m.bin", "-q", "1"], ["'-q'", "-t, -p, -s"]),
        (["m.bin", "--seed", "1"], ["'--seed'"]),
        (["m.bin", "story"], ["'story'"]),
        (["m.bin", "-t", "nan"], ["-t", "not a number"]),
        (["m.bin", "-p", "nan"], ["-p", "not a number"]),
    ],
)
def test_a_wrong_command_line(cli: Cli, arguments: list[str], words: list[str]) -> None:
    result = cli("run", *arguments)
    assert result.code == 2
    for word in words:
        assert word in one_line(result)


# ---- pieces: a model that says what it is told ---------------------------------------------------

PIECES: list[tuple[bytes, float]] = [(b"<unk>", 0.0), (b"\n<s>\n", 0.0), (b"\n</s>\n", 0.0)]
PIECES += [(b"<0x%02X>" % i, 0.0) for i in range(256)]
PIECES += [
    (p, 0.0) for p in (b" ", b" a", b"b", b"  c", b"\x01", b"\x01\x02", b"d\0e", b"\xc2\xa0")
]
PIECES += [("▁f".encode(), 0.0)]
SPACE, A, B, C, ONE_CONTROL, TWO_CONTROLS, NUL, NBSP, MARK = range(259, 268)
BOS, EOS, UNKNOWN = 1, 2, 0


@pytest.fixture
def said(cli: Cli, tmp_path: Path) -> Any:
    """``said([ids])``: what run prints for a model that says them after BOS, greedily."""

    def say(ids: list[int], *flags: str) -> str:
        chain = [BOS, *ids, BOS]
        assert len(set(chain)) == len(chain) - 1, "a token has one successor"
        size = len(PIECES)
        shape = Shape(size, 1, 1, 1, 1, size, 64, tied=False)
        tensors = {name: np.zeros(s, np.float32) for name, s in shape.tensors().items()}
        tensors["rms_final"][:] = 1
        tensors["tok_emb"] = np.eye(size, dtype=np.float32)
        tensors["wcls"][chain[1:], chain[:-1]] = 1
        path = checkpoints.save(tmp_path / "said.bin", checkpoints.v0(shape, tensors))
        checkpoints.save(tmp_path / "tokenizer.bin", checkpoints.tokenizer_bin(PIECES))
        result = cli("run", path, "-t", "0", *flags)
        assert result.code == 0, result.err
        return result.out

    return say


def byte(value: int) -> int:
    return 3 + value


def test_bos_ends_and_eos_does_not(said: Any) -> None:
    assert said([A, EOS, B]) == "a\n</s>\nb\n"
    assert said([]) == "\n"


def test_one_space_is_dropped_after_bos_and_nowhere_else(said: Any) -> None:
    assert said([A, C]) == "a  c\n"
    assert said([C, A]) == " c a\n"
    assert said([SPACE, A]) == " a\n"
    assert said([B, A]) == "b a\n"
    # A dropped byte is a token all the same: what follows it does not follow BOS.
    assert said([byte(1), A]) == " a\n"


def test_single_unprintable_bytes_are_dropped(said: Any) -> None:
    assert said([B, byte(0), byte(7), byte(0x1B), byte(0x7F), A]) == "b a\n"
    assert said([byte(c) for c in b"\t\n\v\f\rxy~"]) == "\t\n\v\f\rxy~\n"
    assert said([B, ONE_CONTROL, TWO_CONTROLS]) == "b\x01\x02\n"


def test_characters_in_byte_tokens_are_shown(said: Any) -> None:
    """The reference drops them: the one difference that is wanted."""
    assert said([B, *(byte(c) for c in "兔".encode())]) == "b兔\n"
    assert said([byte(0xE5), B]) == "\ufffdb\n"


def test_pieces_as_they_stand_in_the_file(said: Any) -> None:
    assert said([UNKNOWN, NUL, NBSP]) == "<unk>d\xa0\n"
    assert said([MARK]) == "▁f\n"


def test_steps_count_the_prompt(said: Any) -> None:
    """BOS, " ", "b" are three positions, of which the last one gives the first new token."""
    flags = ["-i", "b"]
    assert said([B, A, EOS], *flags) == "b a\n</s>\n\n"
    assert said([B, A, EOS], *flags, "-n", "1") == "\n"
    assert said([B, A, EOS], *flags, "-n", "2") == "b\n"
    assert said([B, A, EOS], *flags, "-n", "3") == "b a\n"
    assert said([B, A, EOS], "-i", "b" * 100, "-n", "0") == "b" * 63 + "\n"


# ---- which tokenizer ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hf", "gguf", "hf with tokenizer.json alone"])
def test_folders_and_gguf_tell_it_too(cli: Cli, tiny_path: Path, tmp_path: Path, kind: str) -> None:
    format, target = kind.partition(" ")[0], tmp_path / "m"
    pytest.importorskip("google.protobuf", reason="writes SentencePiece's file")
    if format == "gguf":
        pytest.importorskip("gguf", reason="reads and writes GGUF")
    convert(tiny_path, target, format)
    if "alone" in kind:
        pytest.importorskip("tokenizers", reason="reads tokenizer.json")
        (target / "tokenizer.model").unlink()
    flags = ["-s", "3", "-n", "40", "-i", "从前，  天"]
    expected = cli("run", tiny_path, *flags)
    assert expected.code == 0
    told = cli("run", target, *flags)
    assert (told.code, told.out) == (0, expected.out)
    given = cli("run", target, *flags, "-z", tiny_path.with_name("tokenizer.bin"))
    assert given.out == expected.out


def test_a_model_that_begins_otherwise_is_not_for_run(
    cli: Cli, tiny_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("google.protobuf", reason="writes SentencePiece's file")
    convert(tiny_path, tmp_path / "hf", "hf")
    path = tmp_path / "hf" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "bos_token_id": 5}))
    refused = cli("run", tmp_path / "hf")
    assert refused.code == 1
    assert "begin with token 5, and those of run with 1: use tinyzh generate" in one_line(refused)


def test_a_vocabulary_that_was_rounded_up(cli: Cli, tiny_path: Path, tmp_path: Path) -> None:
    """The ids at its end print nothing, also behind BOS, where a space is looked for."""
    pytest.importorskip("google.protobuf", reason="writes SentencePiece's file")
    shape = Shape(8, 8, 1, 1, 1, 320, 16, tied=False)
    tensors = checkpoints.random_tensors(shape)
    tensors["rms_final"][:] = tensors["wcls"][:] = 0
    tensors["rms_final"][0], tensors["wcls"][319] = 1, tensors["tok_emb"][1, 0]
    tensors["tok_emb"][:] = tensors["tok_emb"][1]
    checkpoints.save(tmp_path / "m.bin", checkpoints.v0(shape, tensors))
    with tinyzh.Model(tiny_path) as tiny, tinyzh.Model(tmp_path / "m.bin", tokenizer=False) as m:
        pieces = Pieces.of(tiny.tokenizer)
        write_folder(tmp_path / "hf", m.config, m.weights, pieces)
    assert cli("run", tmp_path / "hf", "-t", "0").out == "\n"


def test_the_tokenizer_beside_goes_before_the_one_here(
    cli: Cli, tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["-s", "3", "-n", "20"]
    beside = cli("run", tiny_path, *flags)
    assert beside.code == 0
    alone = tmp_path / "alone" / "model.bin"
    alone.parent.mkdir()
    shutil.copy(tiny_path, alone)
    monkeypatch.chdir(tmp_path)
    missing = cli("run", alone, *flags)
    assert missing.code == 1
    assert "-z" in one_line(missing)

    shutil.copy(tiny_path.with_name("tokenizer.bin"), tmp_path)
    assert cli("run", alone, *flags).out == beside.out
    # One of another vocabulary is not taken.
    checkpoints.save(alone.with_name("tokenizer.bin"), checkpoints.tokenizer_bin(PIECES))
    assert cli("run", alone, *flags).out == beside.out
    wrong = cli("run", alone, "-z", alone.with_name("tokenizer.bin"), *flags)
    assert wrong.code == 1
    assert f"{len(PIECES)} pieces" in one_line(wrong)


def test_seed_zero_is_the_time(cli: Cli, tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.time, "time", lambda: 1234.9)
    assert cli("run", tiny_path).out == cli("run", tiny_path, "-s", "1234").out
    assert cli("run", tiny_path, "-s", "0").out != cli("run", tiny_path, "-s", "1235").out


def test_it_is_the_models_own_story(cli: Cli, tiny_path: Path, tiny: tinyzh.Model) -> None:
    """Python's generate tells the same where BOS, EOS and spaces do not come into it."""
    story = tiny.generate("从前", seed=5, temperature=1.0, top_p=0.9, max_new_tokens=10)
    text = story.read()
    shown = cli("run", tiny_path, "-i", "从前", "-s", "5", "-n", str(len(story.prompt_ids) + 9)).out
    assert "".join(shown.split()) == "从前" + "".join(text.split())
