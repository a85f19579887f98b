"""The examples for LangChain and llm, run as their users run them."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tinyzh
from places import ROOT

PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from llm.cli import cli; cli()"


@pytest.fixture(scope="module")
def story() -> str:
    """What the built-in model tells of 从前 with seed 3, at most 40 tokens."""
    return tinyzh.Model().generate("从前", seed=3, max_new_tokens=40).read()


def imported(path: Path) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where pydantic looks for its types
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def langchain() -> Any:
    """The example as a module."""
    pytest.importorskip("langchain_core", reason="the example is for LangChain")
    return imported(ROOT / "examples" / "langchain" / "tinyzh_llm.py")


def test_langchain(langchain: Any, story: str) -> None:
    told = langchain.TinyzhLLM(options={"seed": 3, "max_new_tokens": 40})
    assert told.invoke("从前") == story
    pieces = list(told.stream("从前"))
    assert "".join(pieces) == story
    assert len(pieces) > 10
    assert told.invoke("从前", max_new_tokens=5) != story
    first = story.partition("，")[0]
    assert told.invoke("从前", stop=["，"]) == first != story
    assert told.batch(["从前", "从前"]) == [story, story]

    async def later() -> str:
        return "".join([piece async for piece in told.astream("从前")])

    assert asyncio.run(later()) == story


def test_langchain_as_a_step_of_a_chain(langchain: Any, story: str) -> None:
    from langchain_core.prompts import PromptTemplate

    told = langchain.TinyzhLLM(options={"seed": 3, "max_new_tokens": 40})
    assert (PromptTemplate.from_template("{when}") | told).invoke({"when": "从前"}) == story


@pytest.fixture
def llm_command(tmp_path: Path) -> Any:
    """``llm`` with the plugin, whose entry point is written as an installation would write it."""
    pytest.importorskip("llm", reason="the example is a plugin for llm")
    if sys.version_info >= (3, 11):
        import tomllib

        plugin = ROOT / "examples" / "llm_plugin"
        project = tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        entries = project["entry-points"]["llm"].items()
        info = tmp_path / "llm_tinyzh-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-tinyzh\nVersion: 0.1.0\n")
        lines = "\n".join(f"{name} = {module}" for name, module in entries)
        (info / "entry_points.txt").write_text(f"[llm]\n{lines}\n")
    else:
        pytest.skip("reads pyproject.toml with Python 3.11")

    def run(*arguments: str, **environment: str) -> str:
        paths = [str(plugin), *filter(None, [os.environ.get("PYTHONPATH")])]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path), *arguments],
            env={
                **os.environ,
                "LLM_USER_PATH": str(tmp_path / "user"),
                "PYTHONPATH": os.pathsep.join(paths),
                "PYTHONIOENCODING": "utf-8",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n")

    return run


def test_llm(llm_command: Any, story: str) -> None:
    options = ["-o", "seed", "3", "-o", "max_tokens", "40"]
    assert llm_command("-m", "tinyzh", "从前", *options) == story
    assert llm_command("-m", "tinyzh", "从前", "--no-stream", *options) == story
    greedy = tinyzh.Model().generate("从前", temperature=0, max_new_tokens=9).read()
    cold = ["-o", "temperature", "0", "-o", "max_tokens", "9"]
    assert llm_command("-m", "tinyzh", "从前", *cold) == greedy
    on = tinyzh.Model().generate("从前" + greedy + "但是", temperature=0, max_new_tokens=9).read()
    assert llm_command("-m", "tinyzh", "-c", "但是", *cold) == on


def test_llm_streams(story: str) -> None:
    pytest.importorskip("llm", reason="the example is a plugin for llm")
    model = imported(ROOT / "examples" / "llm_plugin" / "llm_tinyzh.py").Tinyzh()
    response = model.prompt("从前", seed=3, max_tokens=40)
    pieces = list(response)
    assert "".join(pieces) == story
    assert len(pieces) > 10
    assert response.usage().output == 40


def test_llm_with_another_model(llm_command: Any, tiny_path: Path) -> None:
    options = ["-o", "seed", "3", "-o", "max_tokens", "9"]
    expected = tinyzh.Model(tiny_path).generate("从前", seed=3, max_new_tokens=9).read()
    told = llm_command("-m", "tinyzh", "从前", *options, TINYZH_LLM_MODEL=str(tiny_path))
    assert told.split() == expected.split()
