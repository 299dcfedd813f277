"""The figure ``scaling``: accuracy against samples, tokens and FLOPs, and by benchmark.

Equal rows give equal bytes: fixed hash salt, no dates, fonts as paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from spct import artifact
from spct.scaling.doubt import LEAST, doubtful, remark
from spct.scaling.drawing import save
from spct.scaling.labels import label_ends
from spct.scaling.lines import LOOKS, OTHER_LOOK, Line, by_policy, by_size, ink
from spct.scaling.table import Row, headline, main_benchmark, main_size, seeds, select, unique

STYLE: Any = {
    "svg.hashsalt": "spct",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "axes.edgecolor": "#555555",
    "xtick.color": "#333333",
    "ytick.color": "#333333",
}
GREEDY_DASH: Any = (0, (2, 2))
GUIDED_DASH: Any = (0, (5, 1.5, 1, 1.5))


def draw(rows: Sequence[Row], svg: Path, png: Path, *, level: float = 0.95) -> None:
    """Write the figure as SVG and PNG; ``level`` names the intervals that the rows hold.

    Raises ``ValueError`` if there is nothing to draw.
    """
    shown = headline(list(rows))
    if not select(shown, method="voting"):
        raise ValueError("curves.csv has no voting rows to draw")
    with matplotlib.rc_context(STYLE):
        figure = _figure(shown, len(seeds(list(rows))), level)
        with artifact.atomic_path(svg) as aside:
            save(figure, aside)
        with artifact.atomic_path(png) as aside:
            save(figure, aside, "png")


def _figure(rows: list[Row], n_seeds: int, level: float) -> Figure:
    names = unique(select(rows, method="voting"), "benchmark")
    top = main_benchmark(rows)
    main = select(rows, benchmark=top)
    lines = by_policy(main)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.05)
    figure = Figure(figsize=(11, 7.8), layout=layout)
    panels: Any = figure.subfigures(2, 1, height_ratios=[1.45, 1])
    upper, lower = panels
    axes = upper.subplots(1, 3, width_ratios=[1.3, 0.85, 1.2], sharey=True)
    _against_tokens(axes[1], lines)
    _against_flops(axes[2], by_size([row for row in main if row["flops"] > 0]))
    _against_k(axes[0], lines, main)
    # All three share one y axis: names are placed when its limits are final.
    label_ends(axes[0], lines, "k", room=0.4)
    label_ends(axes[2], by_size([row for row in main if row["flops"] > 0]), "flops", room=0.27)
    axes[0].set_ylabel("accuracy")
    items = max(row["items"] for row in main)
    upper.suptitle(
        f"{top}: {items:,} items, {n_seeds} seed{'s' * (n_seeds != 1)}; policies at size "
        f"{main_size(main)}; bands are {100 * level:g} % intervals{_doubt(main)}",
        x=0.01,
        ha="left",
        fontsize=10,
        color="#333333",
    )
    others = [name for name in names if name != top] or [top]
    for axis, name in zip(np.atleast_1d(lower.subplots(1, len(others))), others, strict=True):
        _against_k(axis, by_policy(select(rows, benchmark=name)), [], small=True)
        axis.set_title(name + remark(select(rows, benchmark=name, method="voting")))
    lower.axes[0].set_ylabel("accuracy")
    figure.legend(handles=_key(lines), loc="outside lower center", ncols=8, frameon=False)
    return figure


def _doubt(rows: list[Row]) -> str:
    """A second line of the title where few of the samples can be read."""
    if not any(doubtful(row) for row in select(rows, method="voting")):
        return ""
    return (
        f"\nRead with care: less than {100 * LEAST:g} % of some judges' samples can be read; "
        "votes without any are ties, and fewer of them are no better judgements"
    )


def _key(lines: list[Line]) -> list[Line2D]:
    greedy = Line2D([], [], color="#555555", linestyle=GREEDY_DASH, linewidth=1.2, label="greedy")
    return [*(Line2D([], [], label=line.label, **_look(line, 5)) for line in lines), greedy]


def _look(line: Line, size: float) -> dict[str, Any]:
    return {
        "color": line.color,
        "marker": line.marker,
        "markersize": size,
        "markerfacecolor": "white" if line.guided else line.color,
        "markeredgecolor": line.color if line.guided else ink(line.color),
        "linestyle": GUIDED_DASH if line.guided else "-",
        "linewidth": 0.34 * size,
    }


# ---- panels ----------------------------------------------------------------------------------


def _curve(axis: Axes, line: Line, x: str, *, small: bool = False) -> None:
    at = [row[x] for row in line.rows]
    low, high = ([row[name] for row in line.rows] for name in ("low", "high"))
    # Six bands would hide each other: those of guided votes are fainter.
    axis.fill_between(
        at, low, high, color=line.color, alpha=0.07 if line.guided else 0.15, linewidth=0
    )
    accuracy = [row["accuracy"] for row in line.rows]
    axis.plot(at, accuracy, solid_capstyle="round", **_look(line, 3.8 if small else 5.4))


def _against_k(axis: Axes, lines: list[Line], rows: list[Row], *, small: bool = False) -> None:
    """Accuracy against k; greedy decoding of the main size in ``rows`` as a dotted level."""
    ks = sorted({row["k"] for line in lines for row in line.rows})
    for line in lines:
        _curve(axis, line, "k", small=small)
    for row in select(rows, method="greedy", size=main_size(rows)) if rows else []:
        color = LOOKS.get(row["policy"], OTHER_LOOK)[0]
        axis.hlines(
            row["accuracy"], ks[0], ks[-1], color=color, linestyle=GREEDY_DASH, linewidth=1.1,
            alpha=0.75, zorder=1,
        )  # fmt: skip
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(ks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.4g}%"))
    axis.set_xlabel("samples k")
    if not small:
        axis.set_title("by number of samples")


def _against_tokens(axis: Axes, lines: list[Line]) -> None:
    shown = [line for line in lines if line.rows[0]["tokens"] > 0]
    for line in shown:
        _curve(axis, line, "tokens")
    axis.set_visible(bool(shown))  # nothing was generated where no prompt fitted
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_xlabel("generated tokens per item")
    axis.set_title("by generated tokens")


def _against_flops(axis: Axes, lines: list[Line]) -> None:
    """More samples at every size, and bigger models at the fewest samples, on one axis of cost."""
    for line in lines[::-1]:  # the lightest, of the smallest model, over the others
        _curve(axis, line, "flops")
    axis.set_xscale("log")
    axis.set_xlabel("FLOPs per item")
    axis.set_title("by compute: samples or size")
    axis.xaxis.set_minor_formatter(NullFormatter())
    if not lines:  # a server does not tell how many parameters it runs
        axis.set_visible(False)
    ones = [line.rows[0] for line in lines if line.rows[0]["policy"] == lines[0].rows[0]["policy"]]
    if len(ones) < 2:
        return
    at = [row["flops"] for row in ones], [row["accuracy"] for row in ones]
    axis.plot(
        *at,
        color="#222222",
        linestyle=":",
        linewidth=1.6,
        marker="o",
        markersize=10,
        markerfacecolor="none",
        zorder=5,
    )
    axis.annotate(
        f"bigger model,\nk = {ones[-1]['k']}",
        (at[0][-1], at[1][-1]),
        xytext=(2, -9),
        textcoords="offset points",
        va="top",
        fontsize=8.5,
        color="#222222",
    )
