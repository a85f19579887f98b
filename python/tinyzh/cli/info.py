"""``tinyzh info``: what a checkpoint is, and what it needs."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from .. import _core
from ..builtin import MODEL
from ..errors import MissingPackage, TokenizerError
from ..formats import open_path
from ..model import Model
from .arguments import both, for_command_line
from .terminal import Terminal

NAME = "info"
SUMMARY = "what a model file is and needs / 查看模型文件"

_SESSIONS = (1, 16, 256)
_TOKENIZERS = {
    "BinTokenizer": "tokenizer.bin",
    "SentencePieceTokenizer": "SentencePiece",
    "JsonTokenizer": "tokenizer.json",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help=both("a checkpoint; none: the built-in model", "模型文件；省略则用内置模型"),
    )
    parser.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))
    parser.add_argument(
        "--verify",
        action="store_true",
        help=both("read all of a tz file and check its checksums", "读取整个 tz 文件并核对校验和"),
    )


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Prints the facts."""
    facts = _facts(args.file)
    if args.verify:
        facts["verified"] = facts["format"] == "tinyzh tz" and _core.verify(facts["path"])
    if args.json:
        terminal.line(json.dumps(facts, ensure_ascii=False))
        return
    for name, value in _lines(facts):
        terminal.line(f"{name:<12}{value}")


def _facts(file: str | None) -> dict[str, Any]:
    path = file if file is not None else os.fspath(MODEL)
    found = open_path(path)
    with Model(found, tokenizer=False) as model:
        checkpoint = model._checkpoint
        memory = model.memory()
        config, dtype, threads, isa = model.config, model.dtype, model.threads, model.isa
    # fp32 and tz files are used where they lie in the mapped file; others are held beside it.
    weights = memory["weights"] or memory["file"]
    cache = memory["kv_cache_per_position"] * config.seq_len
    facts: dict[str, Any] = {
        "path": path,
        "format": model.format,
        "group_size": checkpoint["group_size"] or None,
        "numerics_version": checkpoint["numerics_version"] or None,
        "dtype": dtype,
        "parameters": checkpoint["parameters"],
        "file_bytes": size_of(path),
        "tensors": checkpoint["tensors"],
        "config": {**asdict(config), "head_size": config.head_size, "kv_dim": config.kv_dim},
        "memory": {
            "weights": weights,
            "kv_cache_per_position": memory["kv_cache_per_position"],
            "sessions": {str(n): weights + n * cache for n in _SESSIONS},
        },
        "threads": threads,
        "isa": isa,
    }
    try:
        tokenizer = found.tokenizer()
        kind = _TOKENIZERS.get(type(tokenizer).__name__, "tokenizer")
        facts["tokenizer"] = {"path": os.fspath(tokenizer.path), "kind": kind}
    except (MissingPackage, TokenizerError) as error:
        facts["tokenizer"] = None
        facts["tokenizer_problem"] = for_command_line(str(error))
    return facts


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    c, memory = facts["config"], facts["memory"]
    group = f", groups of {facts['group_size']}" if facts["group_size"] else ""
    yield "file", facts["path"]
    yield "format", f"{facts['format']} ({facts['dtype']}{group})"
    if made := facts["numerics_version"]:
        here = _core.numerics_version
        other = f"; this is {here}: convert the original again to have its bits"
        yield "numerics", f"version {made}{other if made != here else ''}"
    yield "size", f"{bytes_in_words(facts['file_bytes'])}, {facts['parameters']:,} parameters"
    yield "tensors", ", ".join(_tensor_in_words(tensor) for tensor in facts["tensors"])
    yield "layers", f"{c['n_layers']}, dim {c['dim']}, hidden {c['hidden_dim']}"
    yield (
        "heads",
        f"{c['n_heads']} of size {c['head_size']}, {c['n_kv_heads']} for keys and values",
    )
    tied = "tied" if c["tied"] else "not tied"
    yield "vocabulary", f"{c['vocab_size']} pieces, classifier {tied}"
    yield "context", f"{c['seq_len']} tokens"
    if found := facts["tokenizer"]:
        yield "tokenizer", f"{found['path']} ({found['kind']})"
    else:
        yield "tokenizer", facts["tokenizer_problem"]
    for n, size in memory["sessions"].items():
        what = "weights and 1 session" if n == "1" else f"{n} sessions"
        yield ("memory" if n == "1" else "", f"{bytes_in_words(size)} for {what} at full context")
    yield "runs with", f"{facts['isa']}, {facts['threads']} threads"
    if "verified" in facts:
        none = f"{facts['format']} has no checksums; convert to tz to have them"
        yield "checksums", "all as they should be" if facts["verified"] else none


def _tensor_in_words(tensor: dict[str, Any]) -> str:
    """wq 12 x (768, 768)."""
    layers = f"{tensor['layers']} x " if tensor["layers"] > 1 else ""
    return f"{tensor['name']} {layers}({tensor['rows']}, {tensor['cols']})"


def size_of(path: str | os.PathLike[str]) -> int:
    """Bytes of a file, or of the files in a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())


def bytes_in_words(size: float) -> str:
    """1234567 -> "1.2 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
