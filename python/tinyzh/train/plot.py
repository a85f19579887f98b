"""Pictures of a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..atomic import replacing
from .extra import require

__all__ = ["plot_lengths"]


def plot_lengths(lengths: Mapping[str, Sequence[int]], path: Path) -> None:
    """A histogram of how many stories have how many characters, a line for each split."""
    require("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    every = sorted(length for split in lengths.values() for length in split)
    end = every[int(0.995 * (len(every) - 1))] + 1  # the longest few would squeeze the rest
    for name, split in lengths.items():
        if split:
            axes.hist(
                split, bins=60, range=(0, end), density=True, histtype="step",
                label=f"{name}: {len(split):,} stories",
            )  # fmt: skip
    axes.set(xlabel="characters in a story", ylabel="share of the stories", xlim=(0, end))
    axes.set_yticks([])
    axes.legend()
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
