"""Training curves from metrics.jsonl as one small SVG a stage."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spct.scaling.plot import STYLE

# What a reader looks for first; the rest follows by name.
FIRST = ("loss", "reward", "kl", "length", "auc", "accuracy", "correct")
COLUMNS = 4
MOST = 12
SEED_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#6b6b6b")


def draw_training(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """SVG text with a panel for each metric and a line for each seed's log."""
    names = {name for log in logs.values() for entry in log for name in entry if name != "step"}
    chosen = sorted(names, key=_rank)[:MOST] or ["(no metrics)"]
    lines = -(-len(chosen) // COLUMNS)
    with matplotlib.rc_context({**STYLE, "font.size": 8, "axes.titlesize": 9}):
        figure = Figure(figsize=(11, 1.9 * lines), layout="constrained")
        grid = figure.subplots(lines, COLUMNS, squeeze=False)
        for axis in list(grid.flat)[len(chosen) :]:
            axis.set_visible(False)
        for name, axis in zip(chosen, grid.flat, strict=False):
            axis.set_title(name)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            for (seed, log), color in zip(logs.items(), SEED_COLORS * len(logs), strict=False):
                points = [(entry["step"], entry[name]) for entry in log if name in entry]
                label = f"seed {seed}"
                mark = "o" if len(points) == 1 else None
                axis.plot(*_columns(points), color=color, linewidth=1.2, marker=mark, label=label)
        if len(logs) > 1:
            grid[0][0].legend(frameon=False, fontsize=7)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _rank(name: str) -> tuple[int, str]:
    hits = [place for place, part in enumerate(FIRST) if part in name.lower()]
    return (hits[0] if hits else len(FIRST), name)


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
