"""Draws what ``ticks`` (bench/capi) prints:  ticks ... | python -m bench.histogram OUT.png"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict

TITLES = {
    "alone": "no engine: lateness of the loop",
    "thread": "engine in a thread of its own: lateness of the loop",
    "step": "tinyzh_engine_step: time beyond its budget",
    "work": "the same in processor time, without that of other programs",
}
STEP = 50  # microseconds of a bar


def main() -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    histograms: dict[str, dict[int, int]] = defaultdict(dict)
    for row in csv.DictReader(sys.stdin):
        histograms[row["mode"]][int(row["microseconds"])] = int(row["ticks"])
    figure, axes = plt.subplots(len(histograms), 1, sharex=True, figsize=(8, 2 * len(histograms)))
    for axis, (mode, bars) in zip(axes, histograms.items(), strict=True):
        axis.bar(list(bars), list(bars.values()), width=STEP, align="edge", color="#4c72b0")
        axis.set_yscale("log")
        axis.set_title(TITLES[mode], fontsize=9, loc="left")
        axis.set_ylabel("ticks")
    axes[-1].set_xlabel("microseconds")
    figure.tight_layout()
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
