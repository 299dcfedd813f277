"""The figure ``training_vs_inference``: more samples and more training in one picture.

Of the paper's Figures 1 and 4, from the rows of ``compute.csv``. Equal rows give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, NullFormatter, NullLocator

from spct import artifact
from spct.scaling.compute import GUIDED, frontier
from spct.scaling.drawing import listed, save
from spct.scaling.lines import LOOKS, OTHER_LOOK, policy_name
from spct.scaling.plot import GUIDED_DASH, STYLE
from spct.scaling.table import Row, select, unique

MARKERS = "os^DvPX*"
FRONTIER = "#222222"


def draw(rows: list[Row], svg: Path, png: Path, *, level: float = 0.95) -> None:
    """Write the figure of one benchmark's rows, one of them a seed's or the pooled seeds'.

    ``level`` names the intervals that the rows hold. Raises ``ValueError`` without plain votes.
    """
    if not select(rows, method="voting"):
        raise ValueError("compute.csv has no voting rows to draw")
    with matplotlib.rc_context(STYLE):
        figure = _figure(rows, level)
        with artifact.atomic_path(svg) as aside:
            save(figure, aside)
        with artifact.atomic_path(png) as aside:
            save(figure, aside, "png")


def _figure(rows: list[Row], level: float) -> Figure:
    sizes = _sizes(rows)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.03, hspace=0.05)
    figure = Figure(figsize=(11, 8.2), layout=layout)
    axes: Any = figure.subplots(2, 2, sharey=True)
    judged = [row for row in rows if row["method"] in ("voting", GUIDED, "greedy")]
    _by_samples(axes[0, 0], judged, sizes)
    _by_params(axes[0, 1], judged, sizes)
    _by_inference(axes[1, 0], rows, judged, sizes)
    _by_training(axes[1, 1], judged, sizes)
    for axis in axes.flat:
        axis.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.4g}%"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy")
    name, items = rows[0]["benchmark"], max(row["items"] for row in rows)
    title = f"{name}: {items:,} items; bands are {100 * level:g} % intervals"
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, color="#333333")
    figure.legend(handles=_key(rows, sizes), loc="outside lower center", ncols=6, frameon=False)
    return figure


def _sizes(rows: Iterable[Row]) -> list[str]:
    """Judges' sizes from small to big, those of unknown parameters last."""
    params = {row["size"]: row["params"] for row in rows}
    big = float("inf")
    return sorted(params, key=lambda size: params[size] if params[size] == params[size] else big)


def _key(rows: list[Row], sizes: list[str]) -> list[Line2D]:
    plain: dict[str, Any] = {"linestyle": "-", "linewidth": 2.2}
    policies = [
        Line2D([], [], color=_color(policy), label=policy_name(policy), **plain)
        for policy in unique(rows, "policy")
        if policy in LOOKS
    ]
    others = ", ".join(policy for policy in unique(rows, "policy") if policy not in LOOKS)
    if others:
        policies.append(Line2D([], [], color=OTHER_LOOK[0], label=others, **plain))
    marks = [
        Line2D(
            [], [], color="#555555", marker=_marker(size, sizes), linestyle="", label=listed(size)
        )
        for size in sizes
    ]
    guide = Line2D([], [], color="#555555", linestyle=GUIDED_DASH, label="guided by the meta RM")
    best = Line2D([], [], color=FRONTIER, linestyle=":", label="best for its FLOPs")
    return [*policies, *marks, *([guide] if select(rows, method=GUIDED) else []), best]


def _color(policy: str) -> str:
    return LOOKS.get(policy, OTHER_LOOK)[0]


def _marker(size: str, sizes: list[str]) -> str:
    return MARKERS[sizes.index(size) % len(MARKERS)]


def _curves(rows: list[Row]) -> list[list[Row]]:
    """Votes by rising k, a curve for each policy, size and method; greedy looks are none."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row["method"] != "greedy":
            place = (row["policy"], row["size"], row["method"])
            found.setdefault(place, []).append(row)
    return [sorted(curve, key=lambda row: row["k"]) for curve in found.values()]


def _line(axis: Axes, curve: list[Row], x: str, sizes: list[str], *, band: bool = True) -> None:
    first = curve[0]
    at = [row[x] for row in curve]
    color, guided = _color(first["policy"]), first["method"] == GUIDED
    axis.plot(
        at,
        [row["accuracy"] for row in curve],
        color=color,
        marker=_marker(first["size"], sizes),
        markersize=5,
        markerfacecolor="white" if guided else color,
        linestyle=GUIDED_DASH if guided else "-",
        linewidth=1.6,
    )
    if band:
        low, high = ([row[name] for row in curve] for name in ("low", "high"))
        axis.fill_between(at, low, high, color=color, alpha=0.1, linewidth=0)


# ---- panels ------------------------------------------------------------------------------------


def _by_samples(axis: Axes, rows: list[Row], sizes: list[str]) -> None:
    """More samples of the size that is guided, or of the one with most policies."""
    votes = select(rows, method="voting")
    guided = unique(select(rows, method=GUIDED), "size")
    most = max(sizes, key=lambda size: len(unique(select(votes, size=size), "policy")))
    size = guided[0] if guided else most
    for curve in _curves(select(rows, size=size)):
        _line(axis, curve, "k", sizes)
    ks = sorted({row["k"] for row in select(votes, size=size)})
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(ks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_xlabel("samples k")
    axis.set_title(f"Inference: more samples of {size}")


def _by_params(axis: Axes, rows: list[Row], sizes: list[str]) -> None:
    """Bigger models judging once, greedily where that was asked, else by one sample."""
    axis.set_title("Training: bigger models, one look")
    axis.set_xlabel("parameters")
    axis.set_xscale("log")
    greedy = select(rows, method="greedy")
    looks = greedy or select(rows, method="voting", k=1)
    for policy in unique(looks, "policy"):
        mine = [row for row in select(looks, policy=policy) if row["params"] == row["params"]]
        mine.sort(key=lambda row: row["params"])
        for row in mine:
            _line(axis, [row], "params", sizes, band=False)
        at, low, high = ([row[name] for row in mine] for name in ("params", "low", "high"))
        axis.plot(at, [row["accuracy"] for row in mine], color=_color(policy), linewidth=1.6)
        axis.fill_between(at, low, high, color=_color(policy), alpha=0.1, linewidth=0)
    known = sorted({row["params"] for row in looks if row["params"] == row["params"]})
    axis.xaxis.set_major_locator(FixedLocator(known))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))


def _by_inference(axis: Axes, rows: list[Row], judged: list[Row], sizes: list[str]) -> None:
    """Every vote of every size on one axis of cost, with the best buys of all ways to judge."""
    axis.set_title("By inference compute")
    axis.set_xlabel("FLOPs an item")
    axis.set_xscale("log")
    others = [row for row in rows if row["policy"] not in LOOKS]  # reward models of other kinds
    for curve in _curves([row for row in [*judged, *others] if row["infer_flops"] > 0]):
        _line(axis, curve, "infer_flops", sizes, band=False)
    best = frontier(row for row in rows if row["infer_flops"] > 0)
    at, accuracy = ([row[name] for row in best] for name in ("infer_flops", "accuracy"))
    axis.plot(at, accuracy, color=FRONTIER, linestyle=":", linewidth=2.2, zorder=5)


def _by_training(axis: Axes, rows: list[Row], sizes: list[str]) -> None:
    """What training after the base bought: one sample and the most, a stroke from one to the other.

    An untrained base stands at the left edge.
    """
    axis.set_title("By training compute, one sample to the most")
    axis.set_xlabel("training FLOPs after the base (left edge: none)")
    curves = [curve for curve in _curves(rows) if not math.isnan(curve[0]["train_flops"])]
    spent = [curve[0]["train_flops"] for curve in curves if curve[0]["train_flops"] > 0]
    if not spent:
        axis.set_visible(False)
        return
    edge = min(spent) / 3
    axis.set_xscale("log")
    for curve in curves:
        apart = 1.2 ** sizes.index(curve[0]["size"])  # sizes of the base would hide each other
        ends = [{**row, "train_flops": row["train_flops"] or edge * apart} for row in curve]
        _line(axis, [ends[0], ends[-1]], "train_flops", sizes, band=False)
