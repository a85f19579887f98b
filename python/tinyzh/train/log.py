"""What a run writes down as it goes: a table, a picture, stories."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..atomic import replacing
from ..errors import FileError
from .extra import require

__all__ = ["COLUMNS", "TABLE", "Log", "read_table"]

TABLE, PICTURE, STORIES = "log.csv", "loss.png", "samples.txt"
COLUMNS = (
    "step",
    "tokens",
    "minutes",
    "lr",
    "train_loss",
    "tokens_per_second",
    "kept",  # nats a token from what it was, on text of --keep, in the last step
    "valid_loss",  # of held-out text, nats a token
    "bits_per_character",  # of the stories of --valid-text
    "faulty",  # share of the stories it told in which it mixed up who is who
)


def read_table(path: Path) -> list[dict[str, float]]:
    """The rows of a log, without the empty cells; FileError: it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            table = csv.DictReader(file)
            rows = [{k: float(v) for k, v in row.items() if v} for row in table]
        if any("step" not in row for row in rows):
            raise ValueError("rows without a step")
    except (ValueError, TypeError, csv.Error) as error:
        raise FileError(f"{path}: damaged ({error}): remove it, and a new one begins") from None
    return rows


class Log:
    """The log of the run in a folder; a resumed run goes on with it."""

    def __init__(self, folder: Path, step: int) -> None:
        self._folder, self._table = folder, folder / TABLE
        rows: Sequence[Mapping[str, float]] = []
        if step and self._table.exists():  # what came after the checkpoint will come again
            rows = [row for row in read_table(self._table) if row["step"] <= step]
        with replacing(self._table) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows([_formatted(row) for row in rows])

    def add(self, row: Mapping[str, float]) -> None:
        """Appends a row to the table."""
        with _appended(self._table) as file:
            csv.DictWriter(file, COLUMNS).writerow(_formatted(row))

    def tell(self, title: str, stories: Sequence[str]) -> None:
        """Appends sample stories."""
        with _appended(self._folder / STORIES) as file:
            file.write(f"## {title}\n\n")
            for story in stories:
                file.write(f"{story}\n\n")

    def plot(self) -> None:
        """Draws the losses so far."""
        require("matplotlib")
        from matplotlib.figure import Figure

        rows = read_table(self._table)
        figure = Figure(figsize=(7, 4), layout="constrained")
        left = figure.add_subplot()
        _curve(left, rows, "train_loss", color="0.75", linewidth=0.8)
        _curve(left, rows, "valid_loss", marker="o", markersize=3)
        left.set(xlabel="steps", ylabel="nats a token")
        if any("bits_per_character" in row for row in rows):
            right = left.twinx()
            _curve(right, rows, "bits_per_character", color="C1", marker="s", markersize=3)
            right.set_ylabel("bits a character")
            right.legend(loc="upper right")
        if rows:
            left.legend(loc="upper center")
        with replacing(self._folder / PICTURE) as part:
            figure.savefig(part, format="png", dpi=120)


@contextmanager
def _appended(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            yield file
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from None


def _formatted(row: Mapping[str, float]) -> dict[str, str]:
    return {k: str(int(v)) if k in ("step", "tokens") else f"{v:.6g}" for k, v in row.items()}


def _curve(axes: object, rows: Sequence[Mapping[str, float]], name: str, **style: object) -> None:
    points = [(row["step"], row[name]) for row in rows if name in row]
    if points:
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, label=name.replace("_", " "), **style)  # type: ignore[attr-defined]
