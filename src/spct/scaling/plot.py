"""The figure ``scaling``: accuracy against samples, tokens and FLOPs, and by benchmark.

Equal rows give equal bytes: fixed hash salt, no dates, fonts as paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    LogLocator,
    NullLocator,
    PercentFormatter,
    StrMethodFormatter,
)

from spct import artifact
from spct.scaling.table import Row, headline, main_size, seeds, select, sizes, unique

HEADLINE = "toy_pairs"
META = "meta_voting"
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
# Okabe and Ito's colours, which stay apart for colour-blind readers; markers differ as well.
LOOKS = {
    "base": ("#6b6b6b", "o", "base"),
    "rft": ("#e69f00", "s", "RFT"),
    "grpo": ("#0072b2", "D", "GRPO"),
}
META_LOOK = ("#009e73", "^", "meta RM")
OTHER_LOOK = ("#cc79a7", "v", "")
GREEDY_DASH = (0, (5, 3))


class Line(NamedTuple):
    """One curve: its rows by k, and how it looks."""

    rows: list[Row]
    color: Any
    marker: str
    label: str


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
            figure.savefig(aside, format="svg", metadata={"Date": None, "Creator": None})
        with artifact.atomic_path(png) as aside:
            figure.savefig(aside, format="png", dpi=160, metadata={"Software": None})


def _figure(rows: list[Row], n_seeds: int, level: float) -> Figure:
    names = unique(select(rows, method="voting"), "benchmark")
    top = HEADLINE if HEADLINE in names else names[0]
    main = select(rows, benchmark=top)
    lines = by_policy(main)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.05)
    figure = Figure(figsize=(11, 7.4), layout=layout)
    panels: Any = figure.subfigures(2, 1, height_ratios=[1.3, 1])
    upper, lower = panels
    axes = upper.subplots(1, 3, width_ratios=[1.15, 1, 1], sharey=True)
    _against_k(axes[0], lines, main)
    axes[0].set_ylabel("accuracy")
    _against(axes[1], lines, "tokens", "generated tokens per item")
    axes[1].set_title("by generated tokens")
    _against_flops(axes[2], main)
    items = max(row["items"] for row in main)
    upper.suptitle(
        f"{top}: {items:,} items, {n_seeds} seed{'s' * (n_seeds != 1)}; policies at size "
        f"{main_size(main)}; bands are {100 * level:g} % intervals",
        x=0.01,
        ha="left",
        fontsize=10,
        color="#333333",
    )
    for axis, name in zip(np.atleast_1d(lower.subplots(1, len(names))), names, strict=True):
        _against_k(axis, by_policy(select(rows, benchmark=name)), [], small=True)
        axis.set_title(name)
    lower.axes[0].set_ylabel("accuracy")
    greedy = Line2D([], [], color="#555555", linestyle=GREEDY_DASH, label="greedy")
    handles = [*_legend(lines), greedy]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def by_policy(rows: list[Row]) -> list[Line]:
    """Curves of the main size: voting of each policy, then the meta-guided one."""
    at_size = select(rows, size=main_size(rows))
    lines = []
    for policy in unique(at_size, "policy"):
        color, marker, label = LOOKS.get(policy, OTHER_LOOK)
        curve = select(at_size, policy=policy, method="voting")
        lines.append(Line(_sorted(curve), color, marker, label or policy))
    for policy in unique(select(at_size, method=META), "policy"):
        color, marker, label = META_LOOK
        curve = select(at_size, policy=policy, method=META)
        lines.append(Line(_sorted(curve), color, marker, f"{_label(policy)} + {label}"))
    return [line for line in lines if line.rows]


def by_size(rows: list[Row]) -> list[Line]:
    """Voting of one policy at every size, dark for big: the last policy that all sizes have."""
    order = sizes(rows)
    having = {p: {r["size"] for r in select(rows, policy=p)} for p in unique(rows, "policy")}
    shared = [policy for policy, found in having.items() if len(found) == len(order)]
    policy = shared[-1] if shared else "base"
    color, marker, _ = LOOKS.get(policy, OTHER_LOOK)
    lines = []
    for place, size in enumerate(order):
        curve = _sorted(select(rows, policy=policy, size=size, method="voting"))
        shade = _shade(color, place / max(1, len(order) - 1))
        lines.append(Line(curve, shade, marker, f"{_label(policy)} {size}"))
    return [line for line in lines if line.rows]


def _label(policy: str) -> str:
    return LOOKS.get(policy, ("", "", policy))[2]


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["k"])


def _shade(color: str, depth: float) -> tuple[float, ...]:
    """A lighter (depth 0) to darker (depth 1) version of a colour."""
    rgb = np.array(to_rgb(color))
    mixed = rgb + (1 - rgb) * 0.45 * (1 - 2 * depth) if depth < 0.5 else rgb * (1.45 - 0.9 * depth)
    return tuple(np.clip(mixed, 0, 1))


# ---- panels ----------------------------------------------------------------------------------


def _curve(axis: Axes, line: Line, x: str, *, small: bool = False) -> None:
    at = [row[x] for row in line.rows]
    axis.fill_between(
        at,
        [row["low"] for row in line.rows],
        [row["high"] for row in line.rows],
        color=line.color,
        alpha=0.15,
        linewidth=0,
    )
    axis.plot(
        at,
        [row["accuracy"] for row in line.rows],
        color=line.color,
        marker=line.marker,
        markersize=3.5 if small else 5,
        linewidth=1.4 if small else 1.9,
        solid_capstyle="round",
    )


def _against_k(axis: Axes, lines: list[Line], rows: list[Row], *, small: bool = False) -> None:
    """Accuracy against k; greedy decoding as a dashed level, the best content-blind one dotted."""
    ks = sorted({row["k"] for line in lines for row in line.rows})
    for line in lines:
        _curve(axis, line, "k", small=small)
    for row in select(rows, method="greedy", size=main_size(rows)) if rows else []:
        color = LOOKS.get(row["policy"], OTHER_LOOK)[0]
        axis.axhline(row["accuracy"], color=color, linestyle=GREEDY_DASH, linewidth=1.1, zorder=1)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(ks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_xlabel("samples k")
    if not small:
        axis.set_title("by number of samples")
        _direct_labels(axis, lines, "k")


def _against(axis: Axes, lines: list[Line], x: str, label: str) -> None:
    for line in lines:
        _curve(axis, line, x)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.set_xlabel(label)


def _against_flops(axis: Axes, rows: list[Row]) -> None:
    """More samples for every size, and bigger models at one sample, on one axis of cost."""
    known = [row for row in rows if row["flops"] == row["flops"] and row["flops"] > 0]
    lines = by_size(known)
    # Beside the sizes, what further training of the main size buys at the same cost.
    lines += [line for line in by_policy(known) if line.label == "GRPO" and len(lines) > 1]
    for line in lines:
        _curve(axis, line, "flops")
    ones = [line.rows[0] for line in lines if line.label != "GRPO"]
    axis.plot(
        [row["flops"] for row in ones],
        [row["accuracy"] for row in ones],
        color="#222222",
        linestyle=":",
        linewidth=1.6,
        marker="o",
        markersize=9,
        markerfacecolor="none",
        zorder=5,
    )
    axis.set_xscale("log")
    axis.set_xlabel("FLOPs per item")
    axis.set_title("by compute: samples or size")
    # These curves end at different costs, where names would lie on other curves: a key beside them.
    single = Line2D([], [], color="#222222", linestyle=":", marker="o", markerfacecolor="none")
    single.set_label("k = 1,\nbigger model")
    axis.legend(
        handles=[*_legend(lines), single], loc="upper left", bbox_to_anchor=(1, 1), frameon=False
    )


def _direct_labels(axis: Axes, lines: list[Line], column: str) -> None:
    """Names at the right end of the lines, moved apart where they would overlap."""
    left, right = axis.get_xlim()
    axis.set_xlim(left, right * (right / left) ** 0.42)  # room for the names
    low, high = axis.get_ylim()
    ends = [line.rows[-1]["accuracy"] for line in lines]
    for line, y in zip(lines, spread(ends, 0.055 * (high - low)), strict=True):
        axis.annotate(
            line.label,
            (line.rows[-1][column], y),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=line.color,
            fontweight="bold",
            annotation_clip=False,
        )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The values, moved as little as needed so that neighbours are at least ``gap`` apart."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while (
            len(groups) > 1
            and _bottom(groups[-1], values, gap) - _top(groups[-2], values, gap) < gap
        ):
            groups[-2:] = [groups[-2] + groups[-1]]
    placed = dict.fromkeys(order, 0.0)
    for group in groups:
        for step, i in enumerate(group):
            placed[i] = _bottom(group, values, gap) + step * gap
    return [placed[i] for i in range(len(values))]


def _bottom(group: list[int], values: Sequence[float], gap: float) -> float:
    return float(np.mean([values[i] for i in group])) - gap * (len(group) - 1) / 2


def _top(group: list[int], values: Sequence[float], gap: float) -> float:
    return _bottom(group, values, gap) + gap * (len(group) - 1)


def _legend(lines: list[Line]) -> list[Line2D]:
    return [
        Line2D([], [], color=line.color, marker=line.marker, markersize=5, label=line.label)
        for line in lines
    ]
