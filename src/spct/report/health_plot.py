"""Figures of a judge's health as SVG text; equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from spct.report.health_rows import Book
from spct.scaling.drawing import listed, svg_text
from spct.scaling.plot import STYLE
from spct.scaling.table import Row

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BENCH_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS = "oDs^vP"
BEST, OTHER = "#0072b2", "#e69f00"
OUTCOME_COLORS = {
    "malformed": "#e69f00", "wrong_count": "#56b4e9", "out_of_range": "#009e73",
    "truncated": "#d55e00", "prompt_too_long": "#cc79a7", "engine_error": "#333333",
}  # fmt: skip
COLUMNS = 4
_PERCENT = FuncFormatter(lambda y, _: f"{100 * y:.4g}%")


def outcomes(book: Book) -> str:
    """What is not ``ok``, a bar a benchmark."""
    names = book.with_rows("outcome")
    figure = Figure(figsize=(8.6, 0.75 + 0.34 * len(names)), layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(names))
    for outcome, color in OUTCOME_COLORS.items():
        rows = [book.get(name, "outcome", outcome) for name in names]
        widths = np.array([row["value"] if row else 0.0 for row in rows])
        if widths.any():
            axis.barh(names, widths, left=left, color=color, height=0.62, label=outcome)
        left += widths
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlim(0, max(0.01, 1.05 * left.max()))
    axis.xaxis.set_major_formatter(_PERCENT)
    axis.set_title("samples without scores")
    if left.any():
        figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    return _svg(figure)


def scores(book: Book) -> str:
    """How often each score is given, to the best or right responses and to the others."""
    names = book.with_rows("score")
    figure, axes = _grid(len(names), height=2.3)
    for name, axis in zip(names, axes, strict=True):
        sides = ("best", "other") if book.numbered(name, "score", "best") else ("right", "wrong")
        for side, color, shift in zip(sides, (BEST, OTHER), (-0.2, 0.2), strict=True):
            rows = book.numbered(name, "score", side)
            at = np.array(list(rows), dtype=float)
            values = [row["value"] for row in rows.values()]
            axis.bar(at + shift, values, width=0.4, color=color, label=side)
        axis.set_title(name)
        axis.grid(axis="x", visible=False)
        axis.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axis.yaxis.set_major_formatter(_PERCENT)
        axis.set_xlabel("score" if sides[0] == "best" else "verdict or rating")
        axis.set_ylim(top=1.32 * axis.get_ylim()[1])  # room for the legend
        axis.legend(frameon=False, fontsize=8, loc="upper left", ncols=2, columnspacing=1)
    return _svg(figure)


def position(book: Book) -> str:
    """Signed bias and order consistency of votes against k; longer lists at k = 1."""
    figure = Figure(figsize=(10.6, 3.1), layout="constrained")
    bias, consistency = figure.subplots(1, 2)
    ks = _curves(bias, book, "position", "bias")
    lists = [(name, book.get(name, "position", "bias:lists", 1)) for name in book.benchmarks]
    for name, row in ((name, row) for name, row in lists if row):
        _bar(bias, [1], [row], **_look(book, name), label=listed(f"{name} (lists)"))
    ks |= _curves(consistency, book, "position", "consistency")
    bias.axhline(0, color="#555555", linewidth=1)
    bias.set_title("signed bias: first − last")
    consistency.set_title("order consistency")
    if consistency.lines:
        consistency.axhline(1, color="#555555", linewidth=1)
    for axis in (bias, consistency):
        _log2(axis, sorted(ks | {1}))
    bias.legend(frameon=False, fontsize=8)
    return _svg(figure)


def repeats(book: Book) -> str:
    """Duplicates among k samples, and the effective number of different ones."""
    figure = Figure(figsize=(10.6, 3.1), layout="constrained")
    duplicates, effective = figure.subplots(1, 2)
    ks = _curves(duplicates, book, "repeats", "duplicates")
    ks |= _curves(effective, book, "repeats", "effective:simpson")
    duplicates.set_title("duplicate rate among k")
    duplicates.set_ylim(bottom=0)
    effective.set_title("effective number of samples among k")
    effective.plot(sorted(ks), sorted(ks), color="#555555", linewidth=1, linestyle=":")
    for axis in (duplicates, effective):
        _log2(axis, sorted(ks))
    effective.set_yscale("log", base=2)
    effective.yaxis.set_major_locator(FixedLocator(sorted(ks)))
    effective.yaxis.set_minor_locator(NullLocator())
    effective.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    duplicates.legend(frameon=False, fontsize=8)
    return _svg(figure)


def reliability(book: Book) -> str:
    """Accuracy of votes by their confidence, with how many votes stand behind each point."""
    names = book.with_rows("calibration")
    figure, axes = _grid(len(names), height=2.7)
    for name, axis in zip(names, axes, strict=True):
        points = [
            (row, book.get(name, "calibration", f"bin:{b}:confidence", row["k"]))
            for b, row in book.numbered(name, "calibration", "bin").items()
        ]
        axis.plot([0, 1], [0, 1], color="#555555", linewidth=1, linestyle=":")
        at = [sure["value"] for _, sure in points if sure]
        rows = [row for row, sure in points if sure]
        color = _look(book, name)["color"]
        _bar(axis, at, rows, color=color, marker="", linestyle="")
        most = max(row["count"] for row in rows)
        sizes = [12 + 90 * row["count"] / most for row in rows]
        axis.scatter(at, [row["value"] for row in rows], s=sizes, color=color, zorder=3)
        axis.set_xlim(0, 1.02)
        axis.set_ylim(0, 1.03)
        axis.set_title(name)
        axis.set_xlabel("confidence: samples that agree")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
            side.set_major_formatter(_PERCENT)
    axes[0].set_ylabel("accuracy of the vote")
    return _svg(figure)


def length(book: Book) -> str:
    """Accuracy where the best response is the longest and where it is the shortest."""
    names = book.with_rows("length")
    lines = [(name, k) for name in names for k in length_ks(book, name)]
    figure = Figure(figsize=(8.6, 0.95 + 0.3 * len(lines)), layout="constrained")
    axis = figure.subplots()
    for place, (name, k) in enumerate(lines):
        ends = [book.get(name, "length", f"best {end}", k) for end in ("longest", "shortest")]
        shown = [row for row in ends if row]
        values = [row["value"] for row in shown]
        axis.plot(values, [place] * len(values), color="#bbbbbb", linewidth=3, zorder=1)
        for row, color, shift in zip(ends, (BEST, OTHER), (-0.13, 0.13), strict=True):
            if row:
                span = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
                axis.errorbar(
                    [row["value"]], [place + shift], xerr=np.maximum(span, 0), color=color,
                    marker="o", markersize=5, linewidth=1.2, linestyle="",
                    label=row["name"] if place == 0 else None,
                )  # fmt: skip
    axis.set_yticks(range(len(lines)), [f"{name}, k = {k}" for name, k in lines])
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(_PERCENT)
    axis.set_title("accuracy by length of the best response")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    return _svg(figure)


def length_ks(book: Book, benchmark: str) -> list[int]:
    """The numbers of samples at which accuracy by length is known."""
    ends = ("best longest", "best shortest")
    return sorted({k for end in ends for k in book.ks(benchmark, "length", end)})


def draw(make: Callable[[Book], str], book: Book) -> str:
    """A figure in the report's style."""
    # Text as text: glyphs drawn as paths would be most of a page's 400 kB.
    style = {**STYLE, "font.size": 9, "axes.titlesize": 10, "svg.fonttype": "none"}
    with matplotlib.rc_context(style):
        return make(book)


# ---- parts -----------------------------------------------------------------------------------


def _look(book: Book, benchmark: str) -> dict[str, Any]:
    place = book.benchmarks.index(benchmark)
    return {
        "color": BENCH_COLORS[place % len(BENCH_COLORS)],
        "marker": MARKERS[place % len(MARKERS)],
    }


def _curves(axis: Axes, book: Book, group: str, name: str) -> set[int]:
    """A line with its interval for each benchmark; the ks met."""
    met: set[int] = set()
    for benchmark in book.benchmarks:
        ks = book.ks(benchmark, group, name)
        rows = [row for k in ks if (row := book.get(benchmark, group, name, k))]
        if rows:
            _bar(axis, ks, rows, **_look(book, benchmark), label=listed(benchmark))
            met |= set(ks)
    axis.yaxis.set_major_formatter(_PERCENT)
    axis.set_xlabel("samples k")
    return met


def _bar(
    axis: Axes, at: Sequence[float], rows: Sequence[Row], *, color: str, marker: str, **more: Any
) -> None:
    """Points with error bars, joined."""
    values = np.array([row["value"] for row in rows])
    low, high = (np.array([row[side] for row in rows]) for side in ("low", "high"))
    span = np.nan_to_num(np.maximum(np.stack([values - low, high - values]), 0))
    axis.errorbar(
        at, values, yerr=span, color=color, marker=marker, markersize=4.5, linewidth=1.5,
        elinewidth=1.1, capsize=2, **more,
    )  # fmt: skip


def _log2(axis: Axes, ks: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(list(ks)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_xlim(min(ks) / 1.15, max(ks) * 1.15)


def _grid(count: int, *, height: float) -> tuple[Figure, list[Axes]]:
    lines = -(-count // COLUMNS)
    columns = min(count, COLUMNS)
    figure = Figure(figsize=(2.75 * columns, height * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _svg(figure: Figure) -> str:
    text = svg_text(figure)
    return text[text.index("<svg") :]
