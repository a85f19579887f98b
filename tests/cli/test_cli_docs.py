"""docs/cli.md and docs/environment.md tell everything, and nothing that is not so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cli_program import Cli
from tinyzh import _core
from tinyzh.cli import _parser

ROOT = Path(__file__).resolve().parents[2]
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
ENVIRONMENT_PAGE = (ROOT / "docs" / "environment.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\| \[`(\w+)`\]", CLI_PAGE, re.MULTILINE)


def section(command: str) -> str:
    """What the page says about a command, and about all of them."""
    common = CLI_PAGE[CLI_PAGE.index("## What all") : CLI_PAGE.index("## generate")]
    return common + re.split(r"^## ", CLI_PAGE.split(f"\n## {command}\n")[1], flags=re.M)[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_on_the_page(cli: Cli, command: str) -> None:
    shown = cli(command, "--help").out
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", shown.split("\n\n", 1)[1]))
    options -= {"-h", "--help"}
    assert options
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section(command)))
    assert options <= documented, options - documented


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_valid(cli: Cli, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one's arguments are taken; that a file is missing is another matter."""
    example = re.search(r"```sh\n(.*?)```", section(command), re.DOTALL)
    assert example
    calls = re.findall(r"tinyzh ([^|<\n]+)", example[1])
    assert calls
    for call in calls:
        arguments = shlex.split(call, comments=True)
        assert arguments[0] == command
        if command == "pull":  # would go and fetch it
            _parser().parse_args(arguments)
            continue
        if "-" in arguments or command == "bench":
            continue
        result = cli(*arguments)
        assert result.code == 0 or (result.code == 1 and "no such file" in result.err.lower()), (
            result
        )


def test_every_variable_is_on_the_page() -> None:
    sources = [*ROOT.glob("csrc/**/*.cc"), *ROOT.glob("csrc/**/*.h"), *ROOT.glob("python/**/*.py")]
    used = set()
    for path in sources:
        text = path.read_text(encoding="utf-8")
        used |= set(re.findall(r'(?:getenv|environ)\W[^\n]*?"(TINYZH_\w+)"', text))
    assert used
    assert set(re.findall(r"^\| `(TINYZH_\w+)`", ENVIRONMENT_PAGE, re.MULTILINE)) == used


def test_every_instruction_set_is_on_the_page() -> None:
    for name in _core.instruction_sets():
        assert f"`{name}`" in ENVIRONMENT_PAGE
