"""What all commands share: help, version, errors, exit codes, UTF-8, pipes and Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tinyzh
from cli_program import PROGRAM, Cli, environment, one_line
from tinyzh.cli import info

Program = Callable[..., subprocess.CompletedProcess[bytes]]
COMMANDS = ["generate", "run", "score", "tokenize", "info", "convert", "bench", "doctor"]
#: No help from Python's own UTF-8 mode: a locale that knows ASCII only.
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_alone_it_shows_examples_and_every_command(cli: Cli) -> None:
    result = cli()
    assert result.code == 0
    assert result.err == ""
    assert "tinyzh generate 从前" in result.out
    assert result.out.count("tinyzh generate") == 2
    for command in COMMANDS:
        assert re.search(rf"^  {command} .* / .*[\u4e00-\u9fff]", result.out, re.MULTILINE)
    assert cli("--help") == result


def test_version(cli: Cli) -> None:
    assert tinyzh.__version__ in cli("--version").out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_in_both_languages(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = cli(command, "--help")
    assert result.code == 0
    assert f"usage / 用法: tinyzh {command}" in result.out
    assert len(re.findall(" / ", result.out)) >= 5
    assert len(re.findall("[\u4e00-\u9fff]", result.out)) > 15
    after_usage = result.out[result.out.index("\n\n") :]
    for line in after_usage.splitlines():
        assert len(line) + len(re.findall("[\u2e80-\uffef]", line)) <= 80, line


def test_importing_it_is_cheap() -> None:
    """Nothing heavy before a command needs it."""
    script = "import sys, tinyzh.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True
    ).stdout.split()
    assert "tinyzh.cli.generate" in loaded
    assert not {"numpy", "sentencepiece", "asyncio", "concurrent.futures"} & set(loaded)


# ---- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tell"], ["tell", "generate"]),
        (["--nonsense"], ["--nonsense", "--help"]),
        (["generate", "a", "b"], ["arguments: b", "--help"]),
        (["generate", "--seed", "x"], ["--seed", "'x'", "from 0 to"]),
        (["generate", "--seed", "-1"], ["--seed", "'-1'", "from 0 to"]),
        (["generate", "--stories", "0"], ["--stories", "'0'", "from 1"]),
        (["generate", "--temperature", "-1"], ["temperature is -1.0", "from 0"]),
        (["generate", "--top-p", "0"], ["top_p is 0.0", "more than 0"]),
        (["generate", "--stop", ""], ["stop", "empty"]),
        (["generate", "--timeout", "-1"], ["timeout is -1.0"]),
        (["generate", "--dtype", "int3"], ["dtype is 'int3'", "float32"]),
        (["generate", "--threads", "0"], ["--threads", "'0'", "256"]),
        (["convert", "a", "b.bin"], ["--format"]),
        (["tokenize", "--decode", "从前"], ["从前", "ids"]),
        (["tokenize", "--decode", "9999999"], ["9999999", "2999"]),
        (["score", ""], ["expected at least one character"]),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(
    cli: Cli, arguments: list[str], words: list[str]
) -> None:
    result = cli(*arguments)
    assert result.code == 2
    message = one_line(result)
    for word in words:
        assert word in message


@pytest.mark.parametrize("command", ["generate", "score", "tokenize", "bench"])
def test_a_missing_model_is_one_line_and_1(cli: Cli, command: str) -> None:
    text = [] if command == "bench" else ["从前"]
    result = cli(command, *text, "-m", "missing.bin")
    assert result.code == 1
    assert result.out.strip() in ("", "从前")
    assert "missing.bin" in one_line(result)
    assert "no such file" in one_line(result).lower()


@pytest.mark.parametrize("command", [["info"], ["run"], ["convert", "--format", "v1", "x.bin"]])
def test_a_missing_file_is_one_line_and_1(
    cli: Cli, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    result = cli(name, "missing.bin", *rest)
    assert result.code == 1
    assert "missing.bin" in one_line(result)


def test_a_missing_tokenizer_names_the_flag(cli: Cli, tiny_path: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.bin"
    alone.write_bytes(tiny_path.read_bytes())
    result = cli("generate", "-m", alone)
    assert result.code == 1
    assert "--tokenizer" in one_line(result)
    assert "tokenizer.model (not there)" in one_line(result)


def test_an_unknown_instruction_set(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYZH_ISA", "mmx")
    result = cli("generate", "从前")
    assert result.code == 1
    assert "'mmx' (TINYZH_ISA)" in one_line(result)


def test_wrong_threads_in_the_environment(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYZH_THREADS", "many")
    result = cli("generate", "从前")
    assert result.code == 2
    assert "TINYZH_THREADS is many" in one_line(result)


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (KeyError("x"), 1, ["unexpected KeyError: 'x'", "python -X dev"]),
        (MemoryError(), 1, ["out of memory"]),
        (PermissionError(13, "Permission denied", "a.bin"), 1, ["a.bin: Permission denied"]),
        (OSError("odd"), 1, ["odd"]),
    ],
)
def test_no_error_shows_a_traceback(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int, words: list[str]
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(info, "run", fail)
    result = cli("info")
    assert result.code == code
    for word in words:
        assert word in one_line(result)


# ---- as a program -----------------------------------------------------------------------------


def test_utf8_whatever_the_locale(program: Program, tiny_path: Path) -> None:
    """Arguments, output, help and errors, with an interpreter that would rather have ASCII."""
    arguments = ["generate", "从前", "-m", tiny_path, "--seed", "1", "--max-new-tokens", "3"]
    ascii_only = program(*arguments, env=ASCII_ONLY)
    assert ascii_only.stderr == b""
    assert ascii_only.returncode == 0
    assert ascii_only.stdout.startswith("从前".encode())
    assert program(*arguments, env={"LANG": "C"}).stdout == ascii_only.stdout
    assert "小故事" in program("--help", env=ASCII_ONLY).stdout.decode()
    assert "从前" in program("tokenize", "--decode", "从前", env=ASCII_ONLY).stderr.decode()


@pytest.mark.parametrize("env", [ASCII_ONLY, {"LC_ALL": "C"}])
def test_a_prompt_that_is_not_utf8(program: Program, env: dict[str, str]) -> None:
    result = program("generate", "从前".encode("gb18030"), env=env)
    assert result.returncode == 2
    assert result.stdout == b""
    assert b"the prompt is not UTF-8: byte 0 is 0xB4" in result.stderr
    assert result.stderr.count(b"\n") == 1


def test_input_that_is_not_utf8(program: Program) -> None:
    result = program("score", "-", input=b"abc\xff")
    assert result.returncode == 2
    assert b"the text on standard input is not UTF-8: byte 3 is 0xFF" in result.stderr


def test_a_reader_who_leaves_ends_it_quietly(tiny_path: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "generate", "从前", "-m", tiny_path, "--stories", "100000"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=30) == 141


def test_nobody_reads_the_help() -> None:
    """What argparse has written is still in a buffer when main ends."""
    ours, theirs = os.pipe()
    os.close(ours)
    result = subprocess.run(
        [*PROGRAM, "generate", "--help"],
        env=environment(),
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    os.close(theirs)
    assert (result.returncode, result.stderr) == (141, b"")


def test_ctrl_c_ends_the_line(slow_path: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "generate", "从前", "-m", slow_path, "--stories", "100000", "--seed", "1"],
        env=environment(),
        # A job in the background of a shell ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(100)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == b""
    assert out.endswith(b"\n")


def test_without_standard_output(tiny_path: Path) -> None:
    command = " ".join([*PROGRAM, "info", str(tiny_path), ">&-"])
    result = subprocess.run(command, shell=True, env=environment(), capture_output=True)
    assert result.returncode == 0
    assert result.stderr == b""


def on_a_terminal(*arguments: str | Path, **env: str) -> str:
    """What the program writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROGRAM, *arguments], env=environment(**env), stdout=theirs, stderr=theirs, stdin=theirs
    )
    os.close(theirs)
    data = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        data += chunk
    os.close(ours)
    assert process.wait(timeout=30) == 0
    return data.decode()


def test_a_terminal_gets_colour(tiny_path: Path) -> None:
    story = ["generate", "从前", "-m", tiny_path, "--seed", "1", "--max-new-tokens", "3"]
    assert on_a_terminal(*story).startswith("\x1b[1m从前\x1b[0m")
    for plain in (
        on_a_terminal(*story, NO_COLOR="1"),
        on_a_terminal(*story, TERM="dumb"),
        on_a_terminal(*story, "--color", "never"),
    ):
        assert plain.startswith("从前")
        assert "\x1b" not in plain


def test_a_story_cannot_steer_the_terminal(tiny_path: Path) -> None:
    """A prompt, or a model's byte tokens, may hold escape sequences."""
    shown = on_a_terminal(
        "generate", "a\x1b[2Jb\tc", "-m", tiny_path, "--max-new-tokens", "0", NO_COLOR="1"
    )
    assert "\x1b" not in shown
    assert "a[2Jb\tc" in shown.expandtabs(1).replace(" ", "\t")


def test_progress_on_a_terminal_leaves_nothing_behind() -> None:
    shown = on_a_terminal("bench", "--quick")
    assert "\r\x1b[Kbench: one stream …" in shown
    assert shown.rsplit("\x1b[K", 1)[1].startswith("model")


@pytest.mark.parametrize("command", [["generate", "从前", "--seed", "1"], ["info"]])
def test_a_full_disk_is_one_line(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*PROGRAM, *command], env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=30
        )
    assert result.returncode == 1
    assert result.stderr.decode().startswith("tinyzh: error: standard output cannot be written")
    assert result.stderr.count(b"\n") == 1
