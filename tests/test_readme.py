"""The two READMEs show the same code, and it runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import tinyzh

ROOT = Path(__file__).parent.parent
DATA = Path(tinyzh.__file__).parent / "data"


def blocks(name: str) -> list[tuple[str, str]]:
    """(language, code) of every fenced block."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_both_languages_show_the_same_code() -> None:
    english = blocks("README.md")
    assert len(english) > 5
    assert blocks("README.zh-CN.md") == english


def test_links_lead_somewhere() -> None:
    for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (ROOT / target).exists(), f"{name} links to {target}"


def test_the_engines_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with tinyzh.Model() as model:
        for _, code in [b for b in blocks("docs/engine.md") if b[0] == "python"]:
            exec(compile(code, "docs/engine.md", "exec"), {"tinyzh": tinyzh, "model": model})
    assert (tmp_path / "rabbit.tzs").exists()


def test_the_examples_of_looking_inside_run() -> None:
    pages = [code for language, code in blocks("docs/arrays.md") if language == "python"]
    assert len(pages) >= 6
    namespace: dict[str, object] = {}
    for code in pages:
        exec(compile(code, "docs/arrays.md", "exec"), namespace)
    assert namespace["other"].dtype == "int8"  # type: ignore[attr-defined]


def test_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one namespace, from top to bottom, in a folder with a checkpoint of the name they use."""
    shutil.copy(DATA / "story.bin", tmp_path / "llama2c-93MB.bin")
    shutil.copy(DATA / "story.tokenizer.model", tmp_path / "tokenizer.model")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    code = [code for language, code in blocks("README.md") if language == "python"]
    assert len(code) >= 4
    for example in code:
        exec(compile(example, "README.md", "exec"), namespace)
    output = capsys.readouterr().out
    assert len(re.findall(r"[\u4e00-\u9fff]", output)) > 100  # stories, told
    assert "stop" in output or "length" in output
