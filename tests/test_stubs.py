"""_core.pyi says what the module has: every name, method, property and argument, and no other."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tinyzh
from tinyzh import _core

STUB = Path(tinyzh.__file__).with_name("_core.pyi")
ROOT = Path(__file__).resolve().parents[1]
DUNDER = ("__init__", "__len__", "__version__")
Names = dict[str, object]


def arguments(function: ast.FunctionDef) -> list[str]:
    """Argument names in order, "*" before those that must be named."""
    a = function.args
    names = [x.arg for x in (*a.posonlyargs, *a.args) if x.arg != "self"]
    return names + (["*"] + [x.arg for x in a.kwonlyargs] if a.kwonlyargs else [])


def is_decorated(function: ast.FunctionDef, name: str) -> bool:
    return any(isinstance(d, ast.Name) and d.id == name for d in function.decorator_list)


def of_stub(body: list[ast.stmt]) -> Names:
    names: Names = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            names[node.name] = of_stub(node.body)
        elif isinstance(node, ast.FunctionDef):
            prop = is_decorated(node, "property")
            names[node.name] = "property" if prop else arguments(node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = "value"
    return {n: v for n, v in names.items() if n in DUNDER or not n.startswith("_")}


def signature(docstring: str) -> list[str]:
    """From the first line that pybind11 writes: ``name(self: X, ids: Sequence[int]) -> Y``."""
    line = docstring.splitlines()[0]
    inside = line[line.index("(") + 1 : line.rindex(")", 0, (line + " ->").rindex(" ->"))]
    while re.search(r"\[[^][]*\]|\([^()]*\)", inside):  # types: their commas part no arguments
        inside = re.sub(r"\[[^][]*\]|\([^()]*\)", "", inside)
    names = [part.split(":")[0].strip() for part in inside.split(",") if part.strip()]
    return [name for name in names if name != "self"]


def of_module(owner: object) -> Names:
    names: Names = {}
    for name, value in vars(owner).items():
        if name.startswith("_") and name not in DUNDER:
            continue
        if isinstance(value, type):
            names[name] = of_module(value)
        elif isinstance(value, property):
            names[name] = "property"
        elif isinstance(value, (str, int)):
            names[name] = "value"
        else:
            names[name] = signature(getattr(value, "__func__", value).__doc__)  # of a static method
    return names


def test_the_stub_matches_the_module() -> None:
    stub, module = of_stub(ast.parse(STUB.read_text(encoding="utf-8")).body), of_module(_core)
    # Requests are made by an engine only; pybind11 gives them a constructor that refuses.
    request = module["Request"]
    assert isinstance(request, dict)
    request.pop("__init__", None)
    assert stub == module


@pytest.mark.slow
def test_mypy_accepts_the_package() -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    # Training is an extra: without PyTorch its types are not there to be checked.
    left_out = [] if importlib.util.find_spec("torch") else ["--exclude", "/train/"]
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *left_out, "python/tinyzh"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.slow
def test_stubtest_accepts_the_stub(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed")
    # What pybind11 does and a stub cannot say: a metaclass, and a constructor that refuses.
    classes = "Batch|BpeTokenizer|Engine|Mailbox|Model|Request|SentencePieceModel|Source|Vocabulary"
    allowed = [rf"tinyzh\._core\.({classes})"]
    allowed += [r"tinyzh\._core\.Request\.__init__"]
    allowlist = tmp_path / "allowlist"
    allowlist.write_text("\n".join(allowed))
    run = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "tinyzh._core", "--allowlist", str(allowlist)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout
