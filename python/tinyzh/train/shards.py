"""Stories as token ids on disk: shards that are mapped into memory.

A folder of ``train_000.bin``, ``train_001.bin`` … and ``valid_000.bin`` … holds uint16 ids
(little-endian), each story after a BOS; ``meta.json`` says what they were made of and how much
there is; ``tokenizer.model`` and ``tokenizer.bin`` are copies of what made them. A shard is
written whole or not at all, so an interrupted run goes on with the first one that is missing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import replacing
from ..errors import FileError, InvalidArgument
from ..tokenizer import Tokenizer, open_tokenizer
from .corpus import SPLITS, read_corpus
from .extra import counted, track
from .parallel import ordered_map
from .tokenizer_files import copy_trained, forms_of, sha256

__all__ = ["ShardReport", "load_meta", "prepare"]

FORMAT = 1
SHARD_TOKENS = 4_000_000
LARGEST_VOCAB = 1 << 16


@dataclass
class SplitCounts:
    """What one split holds."""

    shards: list[str] = field(default_factory=list)
    stories: int = 0
    characters: int = 0
    tokens: int = 0


@dataclass
class ShardReport:
    """What was written, and how many shards had been there before."""

    out: str
    vocab_size: int
    splits: dict[str, SplitCounts]
    kept: int = 0

    def __str__(self) -> str:
        lines = [f"tokens in {self.out} (vocabulary {self.vocab_size:,})"]
        if self.kept:
            lines.append(f"  there already: {counted(self.kept, 'shard')}")
        lines += [
            f"  {name}: {split.tokens:,} tokens, {counted(split.stories, 'story', 'stories')}, "
            f"{split.characters / max(1, split.tokens):.2f} characters a token, "
            f"{counted(len(split.shards), 'shard')}"
            for name, split in self.splits.items()
        ]
        return "\n".join(lines)


def prepare(
    corpus: Path,
    tokenizer: Path,
    out: Path,
    *,
    processes: int | None = None,
    shard_tokens: int = SHARD_TOKENS,
    rebuild: bool = False,
    progress: bool = True,
) -> ShardReport:
    """Tokenize a corpus into shards; what an earlier call with the same inputs did, is kept.

    :class:`tinyzh.train.dataset.TokenDataset` reads them.

    Args:
        corpus: a folder made by :func:`tinyzh.train.corpus.build_corpus`.
        tokenizer: a ``tokenizer.model`` or ``tokenizer.bin``.
        processes: how many work at the same time, each on a shard; None: one for each core.
        shard_tokens: about the most tokens of one shard (counted as characters).
        rebuild: throw away what is in ``out``, if it was made of something else.

    Raises:
        InvalidArgument: a vocabulary that uint16 cannot hold; ``out`` has other inputs.
        FileMissing: no corpus, or no tokenizer.
    """
    corpus, tokenizer, out = Path(corpus), Path(tokenizer), Path(out)
    if shard_tokens < 1:
        raise InvalidArgument(f"shard_tokens is {shard_tokens}: expected at least 1")
    vocab_size = open_tokenizer(tokenizer).vocab_size
    if vocab_size > LARGEST_VOCAB:
        raise InvalidArgument(
            f"{tokenizer}: has {vocab_size:,} pieces; shards hold uint16, so at most "
            f"{LARGEST_VOCAB:,}"
        )
    made_of = {
        "format": FORMAT,
        "corpus": {name: sha256(corpus / f"{name}.jsonl.gz") for name in SPLITS},
        "tokenizer": sha256(tokenizer),
        "shard_tokens": shard_tokens,
    }
    _begin(out, made_of, rebuild, forms_of(tokenizer))
    copy_trained(tokenizer, out)
    if finished := _finished(out):
        return finished
    report = ShardReport(str(out), vocab_size, {name: SplitCounts() for name in SPLITS})
    for name in SPLITS:
        jobs = _jobs(read_corpus(corpus, name), out, name, shard_tokens, report)
        # A character takes about a byte of the compressed corpus: no more processes than shards.
        shards = 1 + (corpus / f"{name}.jsonl.gz").stat().st_size // shard_tokens
        workers = processes or min(os.cpu_count() or 1, shards)
        with ordered_map(partial(_write, tokenizer), jobs, workers, ahead=1) as done:
            for _ in track(done, f"tokenizing {name}", unit="shards", show=progress):
                pass
        split = report.splits[name]
        split.tokens = sum((out / shard).stat().st_size // 2 for shard in split.shards)
    _save_meta(out, made_of, report)
    return report


Job = tuple[Path, list[str]]
"""A shard to write, and its stories."""


def _jobs(
    texts: Iterable[str], out: Path, name: str, shard_tokens: int, report: ShardReport
) -> Iterator[Job]:
    """Where a shard ends depends on the characters before it alone, so that work can go on."""
    split = report.splits[name]
    for stories in _groups(texts, shard_tokens):
        path = out / f"{name}_{len(split.shards):03}.bin"
        split.shards.append(path.name)
        split.stories += len(stories)
        split.characters += sum(map(len, stories))
        if path.exists():
            report.kept += 1
        else:
            yield path, stories


def _groups(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    filled = 0
    for text in texts:
        if group and filled + len(text) + 1 > size:
            yield group
            group, filled = [], 0
        group.append(text)
        filled += len(text) + 1
    if group:
        yield group


_open = cache(open_tokenizer)


def _write(tokenizer: Path, job: Job) -> None:
    """Write one shard, in whichever process."""
    path, stories = job
    encoder: Tokenizer = _open(tokenizer)
    ids = [i for story in stories for i in encoder.encode(story, bos=True)]
    with replacing(path) as part:
        part.write_bytes(np.array(ids, dtype="<u2").tobytes())


def _begin(out: Path, made_of: dict[str, Any], rebuild: bool, forms: Sequence[Path]) -> None:
    """The folder as it can be gone on with: nothing in it of other inputs, or half written."""
    out.mkdir(parents=True, exist_ok=True)
    shards = [path for name in SPLITS for path in out.glob(f"{name}_*.bin*")]
    found = load_meta(out)["made_of"] if (out / "meta.json").exists() else None
    if found != made_of and (found or shards):
        if not rebuild:
            changed = [key for key in made_of if not found or found.get(key) != made_of[key]]
            raise InvalidArgument(
                f"{out}: holds shards of another {', '.join(changed)}: take another folder, or "
                "replace them with --rebuild"
            )
        # Of the tokenizer that is there, only a form that the new one lacks: the others will be
        # replaced, or are what was given.
        kept = {f"tokenizer{form.suffix}" for form in forms}
        stale = {"tokenizer.model", "tokenizer.bin"} - kept
        for path in (out / "meta.json", *shards, *(out / name for name in stale)):
            path.unlink(missing_ok=True)
    for path in out.glob("*.part"):
        path.unlink()
    if found != made_of:
        _save_meta(out, made_of, None)


def _finished(out: Path) -> ShardReport | None:
    """What is in the folder, if nothing is missing."""
    meta = load_meta(out)
    if "splits" not in meta:
        return None
    splits = {name: SplitCounts(**counts) for name, counts in meta["splits"].items()}
    for split in splits.values():
        paths = [out / name for name in split.shards]
        if sum(p.stat().st_size // 2 for p in paths if p.exists()) != split.tokens:
            return None
    kept = sum(len(split.shards) for split in splits.values())
    return ShardReport(str(out), meta["vocab_size"], splits, kept)


def load_meta(out: Path) -> dict[str, Any]:
    """What a folder of shards says of itself; FileError: it is damaged."""
    try:
        meta: dict[str, Any] = json.loads((out / "meta.json").read_text(encoding="utf-8"))
        meta["made_of"]
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f"{out / 'meta.json'}: damaged ({error}); remove the folder") from None
    return meta


def _save_meta(out: Path, made_of: dict[str, Any], report: ShardReport | None) -> None:
    meta: dict[str, Any] = {"made_of": made_of}
    if report:
        splits = {name: asdict(split) for name, split in report.splits.items()}
        meta |= {"vocab_size": report.vocab_size, "splits": splits}
    with replacing(out / "meta.json") as path:
        path.write_text(json.dumps(meta, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
