"""The page that goes with a model: what it is, what it learned from, how well, under what terms."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .log import read_table

__all__ = ["model_card"]

_PRECISION = {
    "v0": "fp32, llama2.c's v0",
    "v1": "fp32, llama2.c's v1",
    "v2": "int8, llama2.c's v2",
    "fp16": "fp16, NumPy",
    "hf": "fp32, safetensors",
}


def model_card(
    saved: Checkpoint, name: str, format: str, table: Path, corpus: Path | None, licence: str
) -> str:
    """The card of a checkpoint in Markdown; ``table`` is the log of its run, if it is there."""
    model, training = saved.run.model, saved.run.training
    tokens = saved.step * training.batch * training.length
    parameters = sum(weight.numel() for weight in saved.model().parameters())
    head = (
        [
            "---",
            "language: zh",
            f"license: {licence.lower()}",
            "pipeline_tag: text-generation",
            "---",
            "",
        ]
        if format == "hf"
        else []
    )
    lines = [
        *head,
        f"# {name}",
        "",
        f"A Llama of {parameters:,} parameters ({_PRECISION[format]}) that tells "
        "children's stories in Chinese. Trained with `tinyzh train`.",
        "",
        "## Shape",
        "",
        *_two_columns(
            (field.name, getattr(model, field.name)) for field in dataclasses.fields(model)
        ),
        "",
        "## Data",
        "",
        *_data(corpus),
        "",
        "## Training",
        "",
        f"{saved.step:,} steps, {tokens:,} tokens, {saved.trained / 60:.0f} minutes.",
        "",
        *_two_columns(
            (field.name, getattr(training, field.name))
            for field in dataclasses.fields(training)
            if field.name not in ("prompts", "save_minutes", "threads")
        ),
        "",
        "## Losses",
        "",
        *_losses(table),
        "",
        "## Limits",
        "",
        "It was made for short stories and knows nothing else. It invents, contradicts itself now "
        "and then, and may tell something that is unfit for children: read before you read aloud.",
        "",
        "## Licence",
        "",
        licence,
    ]
    return "\n".join(lines) + "\n"


def _two_columns(rows: Any) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _data(corpus: Path | None) -> list[str]:
    if corpus is None or not (corpus / "report.json").exists():
        return ["Not described: give `--corpus` when exporting."]
    report = json.loads((corpus / "report.json").read_text(encoding="utf-8"))
    lines = []
    if report["drawn"]:
        lines.append(
            f"- {report['drawn']:,} stories drawn from {report['templates']:,} templates written "
            f"for tinyzh (`tinyzh train corpus --builtin`), seed {report['seed']}"
        )
    for path in report["inputs"]:
        lines.append(f"- {Path(path).name}")
    for split, counts in report["splits"].items():
        lines.append(
            f"- {split}: {counts['stories']:,} stories, {counts['characters']:,} characters"
        )
    return lines


def _losses(table: Path) -> list[str]:
    rows = [row for row in read_table(table) if "valid_loss" in row] if table.exists() else []
    if not rows:
        return ["Not measured."]
    measured = any("bits_per_character" in row for row in rows)
    lines = [
        "Nats a token on text that was drawn for training and on text that was held out"
        + ("; bits a character on other held-out stories." if measured else "."),
        "",
        "| steps | tokens | train | held out |" + (" bits/character |" if measured else ""),
        "|---:|---:|---:|---:|" + ("---:|" if measured else ""),
    ]
    for row in rows:
        line = f"| {row['step']:,.0f} | {row['tokens']:,.0f} | {row['train_loss']:.4f} | "
        line += f"{row['valid_loss']:.4f} |"
        if measured:
            line += f" {row['bits_per_character']:.4f} |" if "bits_per_character" in row else " |"
        lines.append(line)
    return lines
