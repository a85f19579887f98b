"""``tinyzh doctor``: what was built, what was found, what will be used."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import _core
from ..devices import find_cuda, resolve_device
from ..errors import TinyzhError
from ..model import Model
from .arguments import both
from .info import bytes_in_words
from .terminal import Terminal

NAME = "doctor"
SUMMARY = "what is built in, found, and used / 检查安装与硬件"

#: What each extra brings that is looked for.
_EXTRAS = {
    "hub": ("huggingface_hub", "safetensors", "tokenizers", "protobuf"),
    "gguf": ("gguf", "protobuf"),
    "train": ("torch", "matplotlib", "rensa"),
}
_NEEDED = ("numpy", "sentencepiece")


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Prints the facts; fails if the built-in model does not work here."""
    facts = _facts()
    if args.json:
        terminal.line(json.dumps(facts, ensure_ascii=False))
    else:
        for name, value in _lines(facts):
            terminal.line(f"{name:<14}{value}")
    if problem := facts["problem"]:
        raise TinyzhError(f"the built-in model does not work here: {problem}")


def _facts() -> dict[str, Any]:
    cuda = find_cuda()
    facts: dict[str, Any] = {
        "version": _core.__version__,
        "numerics_version": _core.numerics_version,
        "path": str(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) for name in _NEEDED},
        "extras": {
            extra: {name: _version(name) for name in names} for extra, names in _EXTRAS.items()
        },
        "processor": _processor(),
        "memory": _memory(),
        "instruction_sets": _core.instruction_sets(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith("TINYZH_")},
        "cuda": {"built": _core.cuda_build() or None, **asdict(cuda)},
        "device": resolve_device("auto"),
        "used": None,
        "isa": None,
        "threads": None,
        "story": None,
        "problem": None,
    }
    try:
        with Model() as model:
            facts["isa"], facts["threads"] = model.isa, model.threads
            facts["used"] = {
                "device": model.device,
                "dtype": model.dtype,
                "kv_dtype": model.kv_dtype,
                "ahead": model._engine.ahead,
                "graphs": model.device == "cuda",
            }
            story = model.generate("从前", seed=1, max_new_tokens=10)
            facts["story"] = "从前" + story.read()
    except Exception as error:
        facts["problem"] = f"{type(error).__name__}: {error}"
    return facts


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "tinyzh", f"{facts['version']} (numerics {facts['numerics_version']}), {facts['path']}"
    yield "python", f"{facts['python']}, {_with_versions(facts['packages'])}"
    yield "system", facts["system"]
    for extra, packages in facts["extras"].items():
        missing = [name for name, version in packages.items() if version is None]
        remedy = f"without {', '.join(missing)}: pip install 'tinyzh[{extra}]'"
        yield f"extra {extra}", remedy if missing else _with_versions(packages)
    yield "processor", facts["processor"]
    if facts["memory"]:
        yield "memory", bytes_in_words(facts["memory"])
    used = facts["isa"]
    sets = (f"{name} (used)" if name == used else name for name in facts["instruction_sets"])
    yield "kernels", ", ".join(sets)
    cuda = facts["cuda"]
    yield "cuda", f"built in: {cuda['built']}" if cuda["built"] else "not built into this package"
    yield "driver", f"CUDA {cuda['driver']}" if cuda["driver"] else cuda["problem"]
    for gpu in cuda["gpus"]:
        major, minor = gpu["compute_capability"]
        yield "gpu", f"{gpu['name']}, {bytes_in_words(gpu['memory'])}, sm_{major}{minor}"
    for name, value in facts["environment"].items():
        yield "environment", f"{name}={value}"
    yield "auto", f"device='auto' or TINYZH_DEVICE=auto takes {facts['device']}"
    yield "will use", _used(facts)
    yield "tells", facts["story"] or "nothing"


def _used(facts: dict[str, Any]) -> str:
    used = facts["used"]
    if not used:
        return "nothing"
    parts = [used["device"], f"{used['dtype']} (keys and values {used['kv_dtype']})", facts["isa"]]
    parts.append(f"{facts['threads']} threads")
    if used["graphs"]:
        parts += [f"{used['ahead']} passes ahead", "graphs"]
    return ", ".join(parts)


def _with_versions(packages: dict[str, str | None]) -> str:
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Its name, as well as the system knows it."""
    if sys.platform == "linux":
        try:
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        for line in text.splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
