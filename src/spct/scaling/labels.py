"""Names at the right end of lines, moved apart where they would overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from spct.scaling.lines import Line, ink

GAP = 0.058  # of the axis' height: a line of text


def label_ends(axis: Axes, lines: Sequence[Line], column: str, room: float) -> None:
    """Write each line's name beside its last point, a thin stroke from one to the other.

    The names stand in one column right of all lines; ``room`` is the share of the axis (in log x)
    they get. Limits must be final: call it after everything else is drawn.
    """
    if not lines:
        return
    left, right = axis.get_xlim()
    low, high = axis.get_ylim()
    axis.set_xlim(left, left * (right / left) ** (1 / (1 - room)))
    edge = max(line.rows[-1][column] for line in lines) * (right / left) ** 0.07
    ends = [(line.rows[-1][column], line.rows[-1]["accuracy"]) for line in lines]
    heights = spread([y for _, y in ends], GAP * (high - low))
    for line, (x, y), height in zip(lines, ends, heights, strict=True):
        axis.annotate(
            line.label,
            (x, y),
            xytext=(edge, height),
            textcoords="data",
            va="center",
            fontsize=8.5,
            fontweight="bold",
            color=ink(line.color),
            arrowprops={
                "arrowstyle": "-",
                "color": line.color,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
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
