"""The report's section on compute: training against inference, and what the meta RM adds.

Reads ``compute.csv``, ``crossover.csv``, ``signals.csv`` and ``meta_auc.csv`` of a run's results.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spct import artifact
from spct.report.page import inline_svg
from spct.scaling.compute import COLUMNS, GUIDED, NAME, read_compute
from spct.scaling.compute_plot import draw
from spct.scaling.lines import policy_name
from spct.scaling.table import Row, headline, main_benchmark, read_rows, select, unique

FIGURE = "training_vs_inference"
TABLES = ("crossover.csv", "signals.csv", "meta_auc.csv")
SIGNALS = {
    "meta": "meta RM",
    "margin": "score margin",
    "logprob": "mean log-probability",
    "length": "length",
    "random": "random",
    "oracle": "oracle",
}


def section(folder: Path, out: Path | None = None, *, level: float = 0.95) -> dict[str, Any] | None:
    """What ``compute.html.jinja`` shows of the tables in ``folder``; None if they are not there.

    With ``out`` the figure, as SVG and PNG, and copies of the tables go there too; only there does
    ``compute.csv`` hold seconds, which no hashed table does. Raises as
    :func:`spct.scaling.table.read_rows`.
    """
    if not (folder / NAME).is_file():
        return None
    rows = read_compute(folder / NAME)
    crossings, signals, aucs = (read_rows(folder / name) for name in TABLES)
    shown = _shown(rows)
    if not select(shown, method="voting"):
        return None
    benchmark = main_benchmark(shown)
    with tempfile.TemporaryDirectory() as aside:
        place = out or Path(aside)
        svg = place / f"{FIGURE}.svg"
        draw(select(shown, benchmark=benchmark), svg, place / f"{FIGURE}.png", level=level)
        figure = inline_svg(svg.read_text(encoding="utf-8"))
    if out is not None:
        _copy(folder, out, rows)
    return {
        "figure": figure,
        "benchmark": benchmark,
        "judges": judges(select(shown, benchmark=benchmark)),
        "frontiers": frontiers(shown),
        "crossings": [_crossing(row) for row in crossings],
        "signals": signal_tables(_shown(signals)),
        "aucs": auc_tables(_shown(aucs)),
    }


def _shown(rows: Sequence[Row]) -> list[Row]:
    """Seeds pooled where there are several."""
    return headline([{"subset": "all", **row} for row in rows])


def _copy(folder: Path, out: Path, rows: Sequence[Row]) -> None:
    for name in TABLES:
        artifact.write_text(out / name, (folder / name).read_text(encoding="utf-8"))
    with (
        artifact.atomic_path(out / NAME) as aside,
        aside.open("w", newline="", encoding="utf-8") as handle,
    ):
        writer = csv.DictWriter(handle, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows({name: _cell(row[name]) for name in COLUMNS} for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if value != value else f"{value:.6g}"


def judges(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each policy, size and kind of vote: what it cost, its first and its last k."""
    lines = []
    for method in ("voting", GUIDED):
        votes = select(rows, method=method)
        for policy, size in dict.fromkeys((row["policy"], row["size"]) for row in votes):
            curve = sorted(select(votes, policy=policy, size=size), key=lambda row: row["k"])
            name = f"{policy_name(policy)} {size}" + ", guided" * (method == GUIDED)
            lines.append({"name": name, "first": curve[0], "last": curve[-1]})
    return lines


def frontiers(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The best buys of each benchmark by rising inference FLOPs, with a name."""
    best = sorted(select(rows, on_frontier=1), key=lambda row: row["infer_flops"])
    return {
        name: [
            {**row, "name": f"{policy_name(row['policy'])} {row['size']}"}
            for row in select(best, benchmark=name)
        ]
        for name in unique(rows, "benchmark")
    }


def _crossing(row: Row) -> Row:
    """Its k as words: from the low to the high end of the interval, open where none was reached."""
    low, high = (f"{row[name]:g}" if row[name] == row[name] else "" for name in ("k_low", "k_high"))
    told = f"{low}–{high or 'beyond'}" if low else "beyond what was sampled"
    k = f"{row['k']:g}" if row["k"] == row["k"] else ""
    return {**row, "policy": policy_name(row["policy"]), "k": k, "interval": told}


def signal_tables(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each guided policy and size, at its largest k and k_meta = k / 2: a line a benchmark and
    signal with accuracy, gain over the plain vote and the meta RM's lead."""
    tables = []
    for policy, size in dict.fromkeys((row["policy"], row["size"]) for row in rows):
        mine = select(rows, policy=policy, size=size)
        k = max(row["k"] for row in mine)
        keep = max(row["k_meta"] for row in select(mine, k=k))
        lines = []
        for benchmark in unique(mine, "benchmark"):
            here = select(mine, benchmark=benchmark, k=k, k_meta=keep)
            found = {row["signal"]: row for row in here}
            lines += [
                {"benchmark": benchmark, "signal": name, **found[word]}
                for word, name in SIGNALS.items()
                if word in found
            ]
        name = f"{policy_name(policy)} {size}"
        tables.append({"name": name, "k": k, "k_meta": keep, "lines": lines})
    return tables


def auc_tables(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line a guided policy, benchmark and signal."""
    return [
        {**row, "name": f"{policy_name(row['policy'])} {row['size']}", "signal": name}
        for row in rows
        for name in [SIGNALS[row["signal"]]]
    ]
