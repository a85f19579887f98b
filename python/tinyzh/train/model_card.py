"""The page that goes with a model: what it is, what it learned from, how well, under what terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .extra import counted
from .log import read_table

__all__ = ["model_card"]

_PRECISION = {
    "v0": "fp32, llama2.c's v0",
    "v1": "fp32, llama2.c's v1",
    "v2": "int8, llama2.c's v2",
    "hf": "fp32, safetensors",
}
_OF_NO_EFFECT = ("prompts", "save_minutes", "threads")  # on the model


def model_card(
    saved: Checkpoint,
    name: str,
    format: str,
    table: Path,
    corpora: Sequence[Mapping[str, Any]],
    licence: str,
) -> str:
    """The card of a checkpoint in Markdown.

    Args:
        table: the log of its run, if it is there.
        corpora: the reports of what it and the runs before it have read; its own is the last.
    """
    model, training = saved.run.model, {**asdict(saved.run.training), **saved.resolved}
    idle = {*_OF_NO_EFFECT}
    if saved.kept is None:
        idle.add("keep")
    if not saved.run.training.unlikelihood:
        idle.update(("unlikelihood", "tell_every", "told"))
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
        *_two_columns(asdict(model).items()),
        "",
        "## Data",
        "",
        *_data(corpora),
        "",
        "## Training",
        "",
        f"{saved.step:,} steps, {saved.tokens:,} tokens, {_duration(saved.trained)}."
        + _before(saved),
        "",
        *_two_columns((k, v) for k, v in training.items() if k not in idle),
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


def _before(saved: Checkpoint) -> str:
    run = saved.before
    if not run:
        return ""
    kept = " Half of its own tokens were text on which it was kept as it was." if saved.kept else ""
    return (
        f" It began with the weights of a run of {run['steps']:,} steps, {run['tokens']:,} tokens, "
        f"{_duration(run['seconds'])}.{kept}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _two_columns(rows: Any) -> list[str]:
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _data(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    if not reports:
        return ["Not described: give `--corpus` when exporting."]
    lines = [line for report in reports for line in ("", *_corpus(report))]
    return lines[1:]


def _corpus(report: Mapping[str, Any]) -> list[str]:
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
            f"- {split}: {counted(counts['stories'], 'story', 'stories')}, "
            f"{counts['characters']:,} characters"
        )
    return lines


_MEASURED = {
    "valid_loss": ("held out", " and on text that was held out"),
    "bits_per_character": ("bits/character", "; bits a character on other held-out stories"),
}


def _losses(table: Path) -> list[str]:
    rows = read_table(table) if table.exists() else []
    measured = [name for name in _MEASURED if any(name in row for row in rows)]
    if not measured:
        return ["Not measured."]
    columns, words = zip(*(_MEASURED[name] for name in measured), strict=True)
    heads = ["steps", "tokens", "train", *columns]
    lines = [
        f"Nats a token on text that was drawn for training{''.join(words)}.",
        "",
        f"| {' | '.join(heads)} |",
        "|" + "---:|" * len(heads),
    ]
    for row in rows:
        if any(name in row for name in measured):
            cells = [f"{row[name]:.4f}" if name in row else "" for name in measured]
            numbers = (f"{row['step']:,.0f}", f"{row['tokens']:,.0f}", f"{row['train_loss']:.4f}")
            lines.append(f"| {' | '.join([*numbers, *cells])} |")
    return lines
