"""From the values of all rounds to medians, ratios and a Markdown table."""

from __future__ import annotations

from statistics import median
from typing import Any

WORK = {
    "1": "decode, 1 stream",
    "16": "16 streams",
    "64": "64 streams",
    "2x32": "64 as 2 × 32",
    "prefill": "prefill of 255",
    "start": "start, s",
}
#: which of ours a neighbour's weights are compared with, where the names differ
OURS = {"float16": "float32", "q8_0": "int8", "q4_0": "int4"}


def summary(
    machine: dict[str, Any], read: dict[int, list[float]], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Adds to each row its medians, and how many times faster tinyzh was (median of the rounds)."""
    ours = {row["dtype"]: row["values"] for row in rows if row["engine"] == "tinyzh"}
    for row in rows:
        row["median"] = {work: median(values) for work, values in row["values"].items()}
        row["tinyzh_is_faster"] = {}
        for work, theirs in row["values"].items():
            beside = ours.get(OURS.get(row["dtype"], row["dtype"]), {}).get(work)
            if beside and row["engine"] != "tinyzh":
                pairs = zip(beside, theirs, strict=False)  # round by round, while both were there
                ratio = median(b / a if work == "start" else a / b for a, b in pairs)
                row["tinyzh_is_faster"][work] = ratio
    bandwidth = {str(threads): median(values) for threads, values in read.items()}
    return {"machine": machine, "read_bytes_per_second": bandwidth, "rows": rows}


def table(result: dict[str, Any]) -> str:
    """A row for each engine and type of weights, after the limit of the machine."""
    machine, read = result["machine"], result["read_bytes_per_second"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads; tokens a second, medians of "
        f"{machine['rounds']} alternating rounds.  In brackets: how many times faster tinyzh is "
        "with weights of as many bits (with float32 beside float16).  Start: from a new process "
        "to its first token, tinyzh always from the fp32 file.  Memory was read in the same run at "
        + " and ".join(f"{v * 1e-9:.1f} GB/s ({t} threads)" for t, v in read.items())
        + "; the limit of one stream is that over the bytes of the weights.",
        "",
        "| engine | weights | " + " | ".join(WORK.values()) + " |",
        "|---|---|" + "---:|" * len(WORK),
    ]
    dashes = ["–"] * (len(WORK) - 1)
    for row in result["rows"]:
        if row["engine"] == "tinyzh" and row["values"]:
            limit = read[str(machine["threads"])] / row["bytes_per_token"]
            lines.append(_line("*limit of memory*", row["dtype"], [f"{limit:,.0f}", *dashes]))
    notes = []
    for row in result["rows"]:
        name = f"{row['engine']} {row.get('version') or ''}".strip()
        if row["error"] and not row["values"]:
            lines.append(_line(name, row["dtype"], [f"not measured: {row['error']}"]))
            continue
        lines.append(_line(name, row["dtype"], [_cell(row, work) for work in WORK]))
        if row["error"]:
            notes.append(f"{name} {row['dtype']}, from some round on: {row['error']}")
        notes += [f"{name} {row['dtype']}, {WORK[w]}: {e}" for w, e in row["errors"].items() if e]
    if any(row["dtype"] in ("q8_0", "q4_0") and not row["error"] for row in result["rows"]):
        notes.append(
            "llama.cpp's q8_0 and q4_0 have w2, 22 % of the weights, in float16: its rows of 2,268 "
            "are no multiple of 32"
        )
    return "\n".join(lines + [f"\n{note}." for note in notes]) + "\n"


def _line(engine: str, dtype: str, cells: list[str]) -> str:
    return "| " + " | ".join([engine, dtype, *cells]).replace("\n", " ") + " |"


def _cell(row: dict[str, Any], work: str) -> str:
    if work not in row["median"]:
        return "failed" if row["errors"].get(work) else "–"
    value, ratio = row["median"][work], row["tinyzh_is_faster"].get(work)
    text = f"{value:.2f}" if work == "start" else f"{value:,.0f}"
    return f"{text} ({ratio:.2f})" if ratio else text
