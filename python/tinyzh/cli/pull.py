"""``tinyzh pull``: a model from the Hugging Face hub."""

from __future__ import annotations

import argparse
import json
import os

from .arguments import both
from .terminal import Terminal

NAME = "pull"
SUMMARY = "download a model from the Hugging Face hub / 从 Hugging Face 下载模型"


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "name",
        metavar="NAME[:FILE]",
        help=both(
            "owner/name, such as flyingfishinwater/tinystories_zh; :FILE takes that file, or looks "
            "into that folder",
            "仓库名（所有者/名称）；加 :FILE 可指定其中的文件或文件夹",
        ),
    )
    parser.add_argument(
        "--revision",
        metavar="R",
        help=both("a branch, tag or commit; none: main", "分支、标签或提交；省略则为 main"),
    )
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        help=both(
            "the cache; none: that of huggingface_hub (HF_HOME)",
            "缓存文件夹；省略则用 huggingface_hub 的缓存（HF_HOME）",
        ),
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help=both("only look into the cache", "不联网，只查看缓存"),
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help=both("check also the files that were in the cache", "对已缓存的文件也核对校验和"),
    )
    parser.add_argument("--json", action="store_true", help=both("as JSON", "输出 JSON"))


def run(args: argparse.Namespace, terminal: Terminal) -> None:
    """Prints the path that ``--model`` takes."""
    from ..hub import fetch

    pulled = fetch(
        args.name,
        revision=args.revision,
        cache_dir=args.cache_dir,
        local_files_only=args.offline,
        verify=args.verify,
    )
    if pulled.unasked:
        terminal.note(f"tinyzh: note: {pulled.unasked}; this is what the cache has")
    if args.json:
        facts = {
            "path": os.fspath(pulled.path),
            "name": pulled.name,
            "revision": pulled.revision,
            "format": pulled.format,
            "files": [os.fspath(path) for path in pulled.files],
            "bytes": sum(path.stat().st_size for path in pulled.files),
            "offline": pulled.offline,
        }
        terminal.line(json.dumps(facts, ensure_ascii=False))
    else:
        terminal.line(os.fspath(pulled.path))
